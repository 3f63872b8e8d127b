"""Keys: who may ask, how often and for how much; a key is written nowhere but in the hands of its owner."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, RateLimitError
from serving import QUESTION, Held, Server, chat, intern

from tandem.models.fake import FakeModel, Rule, Script
from tandem.server.keys import add_key

Start = Callable[..., Server]
ASKED: Any = [{"role": "user", "content": QUESTION}]


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


PATHS = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/tandem"),
    ("GET", "/v1/tandem"),
    ("GET", "/v1/nothing"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer tdm-wrong",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer {hash}",
        "Bearer ÿ",
        f"Bearer {'x' * 8000}",
    ],
    ids=lambda given: repr(given)[:20],
)
def test_without_a_key_nothing_is_asked(start: Start, file: Path, given: str | None) -> None:
    key = add_key(file, "alice", None, None)
    server = start(keys=file)
    headers = {}
    if given is not None:
        text = given.format(key=key, hash=hashlib.sha256(key.encode()).hexdigest())
        headers["Authorization"] = text.encode("latin-1")
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, verify=False) as client:
        for method, path in PATHS:
            response = client.request(method, path, json=chat() if method == "POST" else None)
            assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
            told = error(response)
            assert (told["type"], told["code"]) == ("authentication_error", "invalid_api_key")
            assert key not in response.text and "tdm-wrong" not in response.text
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200
    assert isinstance(server.mentor, FakeModel) and isinstance(server.intern, FakeModel)
    assert not server.mentor.calls and not server.intern.calls
    assert server.metrics("tandem_requests_total", status="401") == 2


def test_with_a_key_the_official_client_is_let_in(start: Start, file: Path) -> None:
    key = add_key(file, "alice", None, None)
    server = start(keys=file, key=key)
    with server.openai() as client:
        assert client.models.list().data
        assert client.chat.completions.create(model="intern", messages=ASKED).choices
        with pytest.raises(AuthenticationError):
            client.with_options(api_key="tdm-wrong").models.list()
    with httpx.Client(
        base_url=server.url, headers={"authorization": f"bearer  {key}"}, trust_env=False, verify=False
    ) as client:
        assert client.get("/v1/models").status_code == 200  # as lax as the scheme is elsewhere


def test_without_a_file_everybody_may_ask(plain: Server) -> None:
    with httpx.Client(base_url=plain.url, trust_env=False, verify=False) as client:
        assert client.post("/v1/chat/completions", json=chat("intern")).status_code == 200


def test_a_body_is_not_read_from_who_may_not_ask(start: Start, file: Path) -> None:
    add_key(file, "alice", None, None)
    server = start(keys=file, max_body=1024)
    response = server.post(chat(content="x" * 100_000))
    assert response.status_code == 401  # and not 413


def test_a_key_is_in_no_log_and_no_error(start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = add_key(file, "alice", 8, None)
    broken = Script(rules=(Rule(text="x", fault="it broke"),))
    server = start(None, FakeModel(broken, name="fake-intern"), keys=file, key=key)
    texts = [server.post(body).text for body in (chat("intern"), chat("nobody"), chat("mentor"), {}, chat("fixed:low"))]
    texts += [server.post(chat("intern", stream=True)).text for _ in range(9)]  # the rate is over in their midst
    with server.http() as client:
        texts += [client.get(path).text for path in ("/metrics", "/v1/tandem", "/v1/models/x", "/openapi.json")]
        client.headers["Authorization"] = f"Bearer {key[:-1]}"
        texts.append(client.get("/v1/models").text)
    assert "429" in str([server.metrics("tandem_requests_total", status="429")]) or any(
        "requests per minute" in t for t in texts
    )
    for text in (*texts, caplog.text):
        assert key[:-1] not in text and hashlib.sha256(key.encode()).hexdigest() not in text


def test_a_rate_is_kept(start: Start, file: Path) -> None:
    key = add_key(file, "alice", 2, None)
    other = add_key(file, "bob", 1, None)
    server = start(keys=file, key=key)
    assert [server.post(chat("intern")).status_code for _ in range(2)] == [200, 200]
    refused = server.post(chat("intern"))
    assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 60
    told = error(refused)
    assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "2 requests per minute" in told["message"]
    assert server.post(chat("intern", stream=True)).status_code == 429  # before any stream
    assert server.post({"model": "intern", "prompt": "x"}, "/v1/completions").status_code == 429
    with server.openai() as client, pytest.raises(RateLimitError):
        client.chat.completions.create(model="intern", messages=ASKED)
    with server.http() as client:
        assert client.get("/v1/models").status_code == 200  # looking costs nothing
    server.key = other
    assert server.post(chat("intern")).status_code == 200  # another's key has a rate of its own
    assert isinstance(server.intern, FakeModel) and len(server.intern.calls) == 3


def test_a_budget_is_kept_over_a_restart(start: Start, file: Path, prices: Path) -> None:
    key = add_key(file, "alice", None, 0.002)
    options = {"keys": file, "key": key, "prices": prices, "intern_max_tokens": 50}
    server = start(**options)
    answered = 0
    while (response := server.post(chat("intern"))).status_code == 200:
        answered += 1
    assert answered > 2 and response.status_code == 429 and "retry-after" not in response.headers
    told = error(response)
    assert (told["type"], told["code"]) == ("rate_limit_error", "insufficient_quota")
    assert "budget of US$ 0.002 is spent" in told["message"]
    spent = sum(ledger.usd or 0 for ledger in server.ledgers)
    assert 0.0005 < spent <= 0.002
    (kept,) = json.loads((file.parent / "keys.yaml.spent.json").read_text()).values()
    assert kept == pytest.approx(spent, abs=1e-7)  # written at once, not when the server ends
    assert isinstance(server.intern, FakeModel) and len(server.intern.calls) == answered

    again = start(**options)
    assert error(again.post(chat("intern")))["code"] == "insufficient_quota"
    again.key = "none"
    assert again.post(chat("intern")).status_code == 401


def test_what_is_in_flight_is_set_aside(start: Start, file: Path, prices: Path) -> None:
    key = add_key(file, "alice", None, 0.0005)  # room for one request at its dearest
    model = Held("one two three")
    server = start(None, model, keys=file, key=key, prices=prices, intern_max_tokens=50)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(server.post, chat("intern"))
        assert model.reached.wait(60)
        assert "in flight" in error(server.post(chat("intern")))["message"]
        model.let_go()
        assert first.result().status_code == 200
    assert server.post(chat("intern")).status_code == 200  # what it did not cost is given back


def test_what_fails_is_charged_and_nothing_stays_set_aside(start: Start, file: Path, prices: Path) -> None:
    key = add_key(file, "alice", None, 1.0)
    script = Script(rules=(Rule(text="one two three", fault="it broke", fault_after=2),))
    server = start(None, FakeModel(script, name="fake-intern"), keys=file, key=key, prices=prices)
    for stream in (False, True):
        server.post(chat("intern", stream=stream))
    server.idle()
    (account,) = server.service.keys.accounts
    assert account.spent > 0
    account.reserve(1.0 - account.spent)


def test_a_part_without_a_price_does_not_make_the_rest_free(start: Start, file: Path, tmp_path: Path) -> None:
    (prices := tmp_path / "mentor.yaml").write_text("fake-mentor: {input: 10, output: 40}\n")
    second = intern()
    second.spec = second.spec.model_copy(update={"local": False})  # billed, and nobody knows at what price
    key = add_key(file, "alice", None, 0.01)
    server = start(None, second, keys=file, key=key, prices=prices)
    server.ask("fixed:high")
    (account,) = server.service.keys.accounts
    assert account.spent > 23 * 40 / 1e6
    assert json.loads((file.parent / "keys.yaml.spent.json").read_text())["alice"] > 0


def test_many_at_once_share_one_rate(start: Start, file: Path) -> None:
    key = add_key(file, "alice", 5, None)
    server = start(keys=file, key=key)
    with ThreadPoolExecutor(8) as threads:
        found = [one.status_code for one in threads.map(lambda _: server.post(chat("intern")), range(12))]
    assert sorted(found) == [200] * 5 + [429] * 7
