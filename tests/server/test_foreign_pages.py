"""A page of another site in a real browser, before a server without keys: it reads nothing and no model is asked.

The browser's own protection of local addresses is switched off, so that it is the server that refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from page_pair import chromium
from serving import Server, chat, serving, until

from tandem.models.fake import FakeModel

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

OPEN = (
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    "--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessSendPreflights,BlockInsecurePrivateNetworkRequests",
)
ASK = json.dumps(chat("intern"))
# Each kind of request that a page can send without asking first, and those for which the browser asks; what it reads.
TRIES = """async ([server, ask]) => {
  const found = [];
  const tried = async (name, send) => {
    try { const answer = await send(); found.push([name, answer.type, answer.status, await answer.text()]); }
    catch (error) { found.push([name, "error", 0, ""]); }
  };
  const post = (options) => fetch(server + "/v1/chat/completions", { method: "POST", body: ask, ...options });
  await tried("read", () => fetch(server + "/v1/models"));
  await tried("read blindly", () => fetch(server + "/v1/tandem", { mode: "no-cors" }));
  await tried("page", () => fetch(server + "/", { mode: "no-cors" }));
  await tried("metrics", () => fetch(server + "/metrics"));
  await tried("tokenizer", () => fetch(server + "/tokenizer_info"));
  await tried("text as JSON", () => post({ mode: "no-cors" }));
  await tried("JSON by a blob", () => post({ mode: "no-cors", body: new Blob([ask], { type: "application/json" }) }));
  await tried("JSON", () => post({ headers: { "Content-Type": "application/json" } }));
  const beacon = () => navigator.sendBeacon(server + "/v1/completions", ask);
  await tried("beacon", async () => new Response(beacon() && ""));
  await new Promise((done) => {
    const source = new EventSource(server + "/v1/models");
    source.onmessage = (event) => found.push(["events", "message", 200, event.data]);
    source.onerror = () => { source.close(); done(); };
  });
  return found;
}"""
FORM = """<form method=post enctype=text/plain action='{url}'>
<input name='{{"model":"intern","messages":[{{"role":"user","content":"x"}}],"a":"' value='"}}'>
</form><script>document.forms[0].submit()</script>"""


class Site(BaseHTTPRequestHandler):
    """Somebody else's site: `page` is what it shows."""

    page = "<p>hello</p>"

    def do_GET(self) -> None:
        data = type(self).page.encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(*OPEN) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as running:
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://shop.example:{running.server_port}/"
        running.shutdown()
        thread.join()


def nobody_was_asked(server: Server) -> None:
    server.idle()
    assert isinstance(server.intern, FakeModel) and isinstance(server.mentor, FakeModel)
    assert server.intern.calls == server.mentor.calls == [] and not any(ledger.entries for ledger in server.ledgers)


def secrets(found: list[list[Any]]) -> list[list[Any]]:
    """Return the answers that a page could read something in, beside a refusal."""
    return [one for one in found if one[3] and '"error"' not in one[3]]


def test_a_page_of_another_origin_gets_nothing(server: Server, site: str, page: Page) -> None:
    page.goto(site)
    found = page.evaluate(TRIES, [server.url, ASK])
    assert len(found) >= 9 and secrets(found) == []
    kinds = {name: kind for name, kind, _, _ in found}
    assert kinds["read"] == kinds["JSON"] == "error" and kinds["text as JSON"] == "opaque"  # sent, and not to be read
    nobody_was_asked(server)


def test_a_name_that_resolves_to_the_server_gets_nothing(server: Server, page: Page) -> None:
    port = urlsplit(server.url).port
    rebound = f"http://shop.example:{port}"
    answer = page.goto(rebound)
    assert answer and answer.status == 403 and "foreign_host" in answer.text()
    found = page.evaluate(TRIES, [rebound, ASK])  # of its own origin: nothing holds the browser back
    assert {status for name, _, status, _ in found if name != "beacon"} == {403} and secrets(found) == []
    assert len(found) >= 9
    nobody_was_asked(server)


def test_a_form_of_another_site_asks_nobody(server: Server, site: str, page: Page) -> None:
    Site.page = FORM.format(url=f"{server.url}/v1/chat/completions")
    try:
        with page.expect_navigation(url=f"{server.url}/**"):
            page.goto(site)
        assert '"error"' in page.content()
    finally:
        Site.page = "<p>hello</p>"
    nobody_was_asked(server)


def test_the_servers_own_page_may(server: Server, page: Page) -> None:
    page.goto(server.url)
    found = page.evaluate(TRIES, [server.url, ASK])
    assert [one[0] for one in found if one[2] == 200] >= ["read"] and secrets(found)
    until(lambda: isinstance(server.intern, FakeModel) and server.intern.calls)
