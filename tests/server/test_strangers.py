"""What strangers send: pages of other sites, names that resolve to us, sockets that say nothing, wishes without end."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from serve_process import serve_process
from serving import Server, chat, error_of, until

from tandem.errors import EndpointError, MissingKeyError
from tandem.models.fake import FakeModel
from tandem.server.connections import Sweeper, room
from tandem.server.errors import api_error
from tandem.server.keys import add_key

Start = Callable[..., Server]
CHAT = "/v1/chat/completions"
PAGES = ["/", "/healthz", "/metrics", "/v1/models", "/v1/tandem"]


@pytest.fixture
def key(file: Path) -> str:
    return add_key(file, "alice", None, None)


def raw(server: Server, head: str, body: bytes = b"") -> bytes:
    """Send a request as it stands, and return what comes back."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "0.0.0.0", "192.168.0.7"]
)
def test_a_name_that_resolves_to_us_gets_nothing(start: Start, host: str) -> None:
    server = start()
    for path in PAGES:
        assert b" 403 " in raw(server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n").splitlines()[0]
    body = json.dumps(chat("intern")).encode()
    answer = raw(server, f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n", body)
    assert b"foreign_host" in answer and not server.intern.calls  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.8.9.1:8080", "[::1]:8080", "a.localhost"]
)
def test_our_own_names_are_answered(start: Start, host: str) -> None:
    assert b" 200 " in raw(start(), f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n").splitlines()[0]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"]
)
def test_a_page_of_another_origin_gets_nothing(start: Start, origin: str) -> None:
    server = start()
    with server.http() as client:
        response = client.post(CHAT, json=chat("intern"), headers={"Origin": origin})
        assert error_of(response, 403)["code"] == "foreign_origin"
        assert client.post(CHAT, json=chat("intern"), headers={"Origin": server.url}).status_code == 200
    assert len(server.intern.calls) == 1  # type: ignore[attr-defined]


def test_a_text_that_is_json_is_refused(start: Start) -> None:
    """That is what a page may send with mode no-cors, without being asked."""
    server = start()
    with server.http() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
            headers = {} if kind is None else {"Content-Type": kind}
            error = error_of(client.post(CHAT, content=json.dumps(chat("intern")), headers=headers), 415)
            assert "application/json" in error["message"]
        good = client.post(
            CHAT, content=json.dumps(chat("intern")), headers={"Content-Type": "application/json; charset=utf-8"}
        )
        assert good.status_code == 200


def test_with_keys_any_host_and_origin_is_answered(start: Start, file: Path, key: str) -> None:
    server = start(keys=file, key=key)
    with server.http() as client:
        headers = {"Origin": "https://app.example", "Host": "tandem.example"}
        assert client.post(CHAT, json=chat("intern"), headers=headers).status_code == 200


def test_a_key_may_come_as_x_api_key(start: Start, file: Path, key: str) -> None:
    server = start(keys=file, key=key)
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.post(CHAT, json=chat("intern"), headers={"x-api-key": key}).status_code == 200
        error_of(client.post(CHAT, json=chat("intern"), headers={"x-api-key": "tdm-wrong"}), 401)


def test_every_answer_has_a_request_id_and_a_line(
    start: Start, file: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tandem.access")
    server = start(keys=file, key=key)
    with server.http() as client:
        own = client.post(CHAT, json=chat("intern"), headers={"x-request-id": "mine-1"})
        assert own.headers["x-request-id"] == "mine-1"
        made = client.post(CHAT, json=chat("nobody")).headers["x-request-id"]
        assert made.startswith("req_")
        assert client.get("/healthz", headers={"x-request-id": "a b\tc"}).headers["x-request-id"].startswith("req_")
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        client.post(CHAT, json=chat("intern"), headers={"Authorization": "Bearer tdm-secret-guess"})
    until(lambda: len(caplog.records) >= 3)
    lines = [record.getMessage() for record in caplog.records]
    assert any(
        "POST /v1/chat/completions 200" in line and "model=intern" in line and "id=mine-1" in line for line in lines
    )
    assert any("404 model_not_found" in line and made in line for line in lines)
    assert any("401 invalid_api_key" in line for line in lines)
    assert key not in caplog.text and "secret" not in caplog.text


def test_head_is_answered_as_get_without_a_body(plain: Server) -> None:
    with plain.http() as client:
        for path in ("/", "/healthz", "/v1/models"):
            response = client.head(path)
            assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    "error",
    [
        EndpointError("gpu7.internal.example:8000 broke the connection (reset)"),
        EndpointError("cannot reach 10.0.3.4:8000: is the server running? (refused)", retryable=True),
        EndpointError("http://gpu7:8000/v1 answered 500"),
        MissingKeyError("set OPENAI_API_KEY in the environment"),
        EndpointError("api.openai.com wants another key for 'gpt-4o' (401): set OPENAI_API_KEY"),
    ],
)
def test_addresses_and_variables_stay_in_the_log(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    found = api_error(error)
    assert found.status in (502, 503)
    for secret in ("gpu7", "10.0.3.4", "8000", "OPENAI_API_KEY", "api.openai.com"):
        assert secret not in found.message
    assert str(error) in caplog.text


def test_a_client_does_not_lift_the_servers_caps(start: Start) -> None:
    server = start(intern_max_tokens=50, mentor_max_tokens=60)
    server.ask("intern", max_tokens=900_000)
    assert isinstance(server.intern, FakeModel)
    assert max(request.max_tokens for request in server.intern.calls) <= 50
    error = error_of(server.post(chat("fixed:high=90000")))
    assert error["param"] == "model" and "90,000 mentor tokens are more than this server allows" in error["message"]
    error = error_of(server.post(chat(tandem={"effort": "none,low=90000"})))
    assert error["param"] == "tandem.effort"


def test_n_counts_n(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    key = add_key(file, "few", 4, None)
    server = start(keys=file, key=key)
    body = {"temperature": 0.5, "n": 3}
    assert server.post(chat("intern", **body)).status_code == 200
    assert error_of(server.post(chat("intern", **body)), 429)["code"] == "rate_limit_exceeded"
    assert server.post(chat("intern")).status_code == 200
    error_of(server.post(chat("intern")), 429)
    assert "has 8" in error_of(server.post(chat("intern", temperature=0.5, n=8)), 429)["message"]


class Counting(FakeModel):
    counted = 0

    def count(self, text: str) -> int:
        type(self).counted += len(text)
        return super().count(text)


def test_a_key_over_its_rate_costs_no_tokenising(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    server = start(None, Counting(), keys=file, key=add_key(file, "one", 1, None))
    assert server.post(chat("intern")).status_code == 200
    before = Counting.counted
    for _ in range(8):
        error_of(server.post(chat("intern", "word " * 700_000)), 429)
    assert Counting.counted == before


def test_late_connections_are_closed_by_what_they_do() -> None:
    class Connection:
        def __init__(self, cycle: Any) -> None:
            self.cycle, self.aborted = cycle, False
            self.transport = SimpleNamespace(abort=lambda: setattr(self, "aborted", True))

    clock = [0.0]
    sweeper = Sweeper(headers=10, body=30, clock=lambda: clock[0])
    silent, slow = Connection(None), Connection(SimpleNamespace(response_complete=False, more_body=True))
    busy = Connection(SimpleNamespace(response_complete=False, more_body=False))
    kept = {silent, slow, busy}
    assert sweeper.sweep(kept) == 0
    clock[0] = 9.0
    assert sweeper.sweep(kept) == 0
    clock[0] = 11.0
    assert sweeper.sweep(kept) == 1 and silent.aborted
    kept.discard(silent)
    clock[0] = 31.0
    assert sweeper.sweep(kept) == 1 and slow.aborted
    kept.discard(slow)
    clock[0] = 10_000.0
    assert sweeper.sweep(kept) == 0 and not busy.aborted


def test_room_is_left_for_what_the_server_needs() -> None:
    assert (room(80), room(1024), room(1 << 20)) == ((16, 8), (720, 240), (4096, 512))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="descriptors as Linux counts them")
async def test_idle_sockets_take_nothing_from_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))  # the server's; ours again below
    context = serve_process(tmp_path, "--mentor", "fake", "--intern", "fake")
    server = await context.__aenter__()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        address = urlsplit(server.url)
        idle = [await asyncio.open_connection(address.hostname, address.port) for _ in range(300)]
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
            for _ in range(20):
                assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/v1/models")).status_code == 200
        assert server.files < 128
        async with asyncio.timeout(30):
            while "GET /v1/models 200" not in server.log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for _, writer in idle:
            writer.close()
        assert len(server.log.read_text().splitlines()) < 40
    finally:
        await context.__aexit__(None, None, None)
