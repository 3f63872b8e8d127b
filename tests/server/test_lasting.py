"""What outlives a server and what changes under it: money in flight, broken streams, keys and their limits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml
from serve_process import serve_process
from serving import Held, Server, chat, error_of, until

from tandem.errors import TandemError
from tandem.server.journal import SpendingJournal
from tandem.server.keys import KeyRing, add_key

Start = Callable[..., Server]


def spent(file: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(file.with_name("keys.yaml.spent.json").read_text())
    return found


@pytest.mark.slow
async def test_money_in_flight_outlives_a_kill(tmp_path: Path) -> None:
    """Three requests are over and one is at work when the server is killed: all are charged, each once."""
    key = add_key(file := tmp_path / "keys.yaml", "alice", None, 100.0)
    rules = [{"text": "word " * 2000, "when": "slowly"}, {"text": "\\boxed{2}"}]
    (tmp_path / "slow.json").write_text(json.dumps({"rules": rules, "token_seconds": 0.05}))
    (tmp_path / "prices.yaml").write_text("fake: {input: 10, output: 40}\n'fake:slow.json': {input: 1, output: 4}\n")
    options = ("--mentor", "fake", "--intern", "fake:slow.json", "--keys", "keys.yaml", "--prices", "prices.yaml")
    headers = {"Authorization": f"Bearer {key}"}
    journal = tmp_path / "keys.yaml.open.jsonl"
    async with (
        serve_process(tmp_path, *options) as server,
        httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=60) as client,
    ):
        for _ in range(3):
            assert (await client.post("/v1/chat/completions", json=chat("intern", "1+1?"))).status_code == 200
        over = spent(file)["alice"]
        assert over > 0
        body = chat("intern", "slowly: 1+1?", stream=True)
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                async for _ in response.aiter_lines():
                    os.kill(server.pid, signal.SIGKILL)
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    bound = rows[-1]["open"]
    assert bound > 0 and [row["n"] for row in rows] == [1, 1, 2, 2, 3, 3, 4]
    for _ in range(2):  # the second start does not charge it again
        async with serve_process(tmp_path, *options) as server:
            assert spent(file)["alice"] == pytest.approx(over + bound)
            os.kill(server.pid, signal.SIGKILL)


def test_what_is_at_work_is_noted_before_it(start: Start, file: Path, prices: Path) -> None:
    key = add_key(file, "alice", None, 1.0)
    model = Held("one two three")
    server = start(None, model, keys=file, key=key, prices=prices, intern_max_tokens=50)
    journal = file.with_name("keys.yaml.open.jsonl")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(server.post, chat("intern"))
        assert model.reached.wait(60)
        (row,) = [json.loads(line) for line in journal.read_text().splitlines()]
        assert row["key"] == "alice" and row["open"] > 0
        model.let_go()
        assert first.result().status_code == 200
    server.idle()
    opened, closed = [json.loads(line) for line in journal.read_text().splitlines()]
    assert closed["n"] == opened["n"] and 0 < closed["spent"] < opened["open"]


@pytest.mark.parametrize("crash", ["none", "before the file is saved", "midway"])
def test_a_recovery_that_is_killed_itself_charges_once(file: Path, monkeypatch: pytest.MonkeyPatch, crash: str) -> None:
    add_key(file, "alice", None, 5.0)
    add_key(file, "bob", None, 5.0)
    journal = SpendingJournal(file.with_name("keys.yaml.open.jsonl"))
    journal.end(journal.begin("alice", 0.5), 0.25)
    journal.begin("alice", 1.0)
    journal.begin("bob", 2.0)
    journal.begin("gone", 3.0)  # its key is not in the file any more
    journal.close()
    if crash != "none":
        with monkeypatch.context() as patch:
            if crash == "midway":
                ends = SpendingJournal.end
                patch.setattr(SpendingJournal, "end", lambda self, n, usd: ends(self, n, usd) if n < 3 else 1 / 0)
            else:
                patch.setattr(KeyRing, "save", lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                KeyRing(file).recover()
    for _ in range(2):
        ring = KeyRing(file)
        ring.recover()
        assert [account.spent for account in ring.accounts] == [1.25, 2.0]
        assert spent(file) == {"alice": 1.25, "bob": 2.0, "gone": 3.0}
        ring.close()


def test_a_journal_that_is_torn_or_damaged(file: Path) -> None:
    path = file.with_name("keys.yaml.open.jsonl")
    path.write_bytes(b'{"n":1,"key":"alice","open":1.5}\n{"n":2,"key":"al')
    journal = SpendingJournal(path)
    assert journal.open == {1: ("alice", 1.5)}
    journal.end(1, 2.5)
    journal.close()
    again = SpendingJournal(path)
    assert again.open == {} and again.spent == {"alice": 2.5}
    again.close()
    path.write_text('{"n":1,"key":"alice","open":"much"}\n')
    with pytest.raises(TandemError, match="is damaged; repair or remove it"):
        SpendingJournal(path)


def test_a_second_server_with_the_same_file_is_told(start: Start, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = add_key(file, "alice", None, 1.0)
    start(keys=file, key=key)
    second = start(keys=file, key=key)
    assert "another server writes to" in caplog.text
    assert second.post(chat("intern")).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
async def test_a_drain_that_is_over_ends_streams_with_an_error(tmp_path: Path, signals: int) -> None:
    script = {"rules": [{"text": "word " * 3000}], "token_seconds": 0.05}
    (tmp_path / "slow.json").write_text(json.dumps(script))
    drain = "1" if signals == 1 else "600"
    options = ("--mentor", "fake", "--intern", "fake:slow.json", "--drain", drain)
    async with (
        serve_process(tmp_path, *options) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=chat("intern", stream=True)) as response,
    ):
        lines = [line async for line in _ended(response, server.pid, signals)]
    last = json.loads(lines[-1].removeprefix("data: "))
    assert last["error"]["code"] == "shutting_down" and last["error"]["type"] == "server_error"


async def _ended(response: httpx.Response, pid: int, signals: int) -> AsyncGenerator[str, None]:
    """Yield a stream's lines; the server is sent signals once it streams."""
    told = 0
    async for line in response.aiter_lines():
        if line:
            yield line
        if told < signals:
            os.kill(pid, signal.SIGTERM)
            told += 1
            await asyncio.sleep(0.1)


def test_a_key_has_so_many_requests_at_once(start: Start, file: Path) -> None:
    key, other = add_key(file, "alice", None, None, concurrency=1), add_key(file, "bob", None, None)
    model = Held("one two three")
    server = start(None, model, keys=file, key=key)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(server.post, chat("intern"))
        assert model.reached.wait(60)
        told = error_of(server.post(chat("intern")), 429)
        assert told["code"] == "rate_limit_exceeded" and "1 requests at once" in told["message"]
        server.key = other
        second = threads.submit(server.post, chat("intern"))
        until(lambda: server.service.gate.running == 2)
        model.let_go()
        assert first.result().status_code == second.result().status_code == 200
    server.key = key
    assert server.post(chat("intern", stream=True)).status_code == 200
    server.idle()
    assert server.post(chat("intern")).status_code == 200  # what is over is given back


def test_a_key_may_ask_for_its_models_only(start: Start, file: Path) -> None:
    server = start(keys=file, key=add_key(file, "alice", None, None, models=("tandem", "intern")))
    with server.http() as client:
        listed = [one["id"] for one in client.get("/v1/models").json()["data"]]
        assert "tandem:low" in listed and {name.partition(":")[0] for name in listed} == {"tandem", "intern"}
        assert client.get("/v1/models/intern").status_code == 200
        error_of(client.get("/v1/models/mentor"), 404)
    assert server.post(chat("tandem:low")).status_code == 200
    for model in ("mentor", "fixed:high", "tandemonium"):
        told = error_of(server.post(chat(model)), 404)
        assert (told["code"], told["param"]) == ("model_not_found", "model") and "tandem, intern only" in told[
            "message"
        ]


@pytest.mark.parametrize("field", ["concurrency: 0", "models: []", "models: tandem", "concurrency: many"])
def test_a_wrong_limit_is_told(file: Path, field: str) -> None:
    file.write_text(f"keys: [{{name: a, sha256: {'0' * 64!r}, {field}}}]")
    with pytest.raises(TandemError, match=rf"keys\.0\.{field.partition(':')[0]}"):
        KeyRing(file)


def test_keys_are_read_again(
    start: Start, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tandem.server.keys._LOOK", 0.01)
    alice = add_key(file, "alice", None, None)
    server = start(keys=file, key=alice)
    ring = server.service.keys
    assert server.post(chat("intern")).status_code == 200
    ring.accounts[0].settle(0, 1.5)
    bob = add_key(file, "bob", None, None)
    until(lambda: len(ring.accounts) == 2)
    assert ring.account(f"Bearer {bob}").entry.name == "bob"
    rows = yaml.safe_load(file.read_text())["keys"]
    file.write_text("keys: {")
    until(lambda: "the keys stay as they were" in caplog.text)
    assert server.post(chat("intern")).status_code == 200
    file.write_text(yaml.safe_dump({"keys": rows[1:]}))
    until(lambda: len(ring.accounts) == 1)
    assert server.post(chat("intern")).status_code == 401
    ring.save()
    assert spent(file)["alice"] == 1.5
    file.write_text(yaml.safe_dump({"keys": [rows[0] | {"usd": 2.0}]}))
    until(lambda: ring.accounts and ring.accounts[0].entry.usd == 2.0)
    assert ring.account(f"Bearer {alice}").spent == 1.5  # no new budget for who comes back


def test_a_key_sees_what_it_saves(start: Start, file: Path, prices: Path) -> None:
    server = start(keys=file, key=add_key(file, "alice", None, None), prices=prices)
    told = [server.ask("tandem:low")["usage"]["tandem"], server.ask("mentor")["usage"]["tandem"]]
    saved = sum(one["mentor_alone"]["usd"] - one["usd"] for one in told)
    assert server.metrics("tandem_key_usd_saved", key="alice") == pytest.approx(saved)
    charged = server.metrics("tandem_key_usd_total", key="alice")
    assert charged == pytest.approx(sum(one["usd"] for one in told)) and charged > 0
    assert server.post(chat("tandem:low", stream=True)).status_code == 200  # without a usage of its own too
    assert server.metrics("tandem_key_usd_saved", key="alice") != pytest.approx(saved)
