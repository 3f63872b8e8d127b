"""`tandem serve` as a process: it says where it is, drains on SIGTERM, and refuses bad usage in one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import FAKES, Cli, script
from openai import OpenAI
from serving import chat, until

pytestmark = pytest.mark.timeout(120)  # what is not refused would serve for ever
SERVE = ("serve", *FAKES)
SLOW = " ".join(f"word{k}" for k in range(40))


class Process:
    """A `tandem serve` of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tandem", "serve", *arguments, "--no-access-log", "--port", "0"]
        self.running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        until(lambda: self.said or self.running.poll() is not None, 120)
        assert self.said, "it ended without a word"
        self.url = self.said[0].split()[-1]

    def _read(self) -> None:
        assert self.running.stderr
        self.said.extend(iter(self.running.stderr.readline, ""))

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def ready(self) -> None:
        with self.client() as client:
            until(lambda: client.get("/readyz").status_code == 200, 120)

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        code = self.running.wait(60)
        self._reading.join(20)
        return code


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def start(*arguments: str) -> Process:
        made.append(Process(*arguments))
        return made[-1]

    yield start
    for one in made:
        if one.running.poll() is None:
            one.running.kill()
        one.ended()


@pytest.mark.slow
def test_sigterm_lets_what_runs_end_whole(process: Callable[..., Process], tmp_path: Path) -> None:
    slow = script(tmp_path / "slow.json", rules=[{"text": SLOW}], token_seconds=0.1)
    server = process("--mentor", "fake", "--intern", slow)
    assert server.said[0].startswith("fake and fake:") and server.url.startswith("http://127.0.0.1:")
    server.ready()
    with server.client() as client, server.client() as other, ThreadPoolExecutor(1) as threads:
        with client.stream("POST", "/v1/chat/completions", json=chat("intern", stream=True)) as response:
            whole = threads.submit(other.post, "/v1/chat/completions", json=chat("intern"))
            lines = response.iter_lines()
            next(lines)
            until(lambda: "requests_running 2" in httpx.get(f"{server.url}/metrics", trust_env=False).text)
            server.running.send_signal(signal.SIGTERM)
            with server.client() as late:
                until(lambda: late.get("/readyz").json() == {"status": "draining"})
                refused = late.post("/v1/chat/completions", json=chat("intern"))
                assert refused.status_code == 503 and refused.headers["retry-after"]
                assert late.get("/healthz").status_code == 200
            rest = [line for line in lines if line]
        chunks = [json.loads(line.removeprefix("data: ")) for line in rest[:-1]]
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == SLOW
        assert rest[-1] == "data: [DONE]" and chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert whole.result().json()["choices"][0]["message"]["content"] == SLOW
    assert server.ended() == 0
    assert len(server.said) == 1, server.said  # it went as it should: there is nothing to say
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz", trust_env=False)


def draining(server: Process) -> bool:
    try:
        found = httpx.get(f"{server.url}/readyz", trust_env=False, timeout=60).json()
    except httpx.TransportError:  # newcomers are turned away for a moment, and then not let in at all
        return server.running.poll() is None
    return bool(found == {"status": "draining"})


@pytest.mark.slow
def test_a_second_signal_does_not_wait(process: Callable[..., Process], tmp_path: Path) -> None:
    endless = script(tmp_path / "endless.json", rules=[{"text": SLOW * 50}], token_seconds=0.5)
    server = process("--mentor", "fake", "--intern", endless, "--drain", "1000")
    server.ready()
    body = chat("intern", stream=True)
    with server.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        server.running.send_signal(signal.SIGTERM)
        until(lambda: draining(server))
        server.running.send_signal(signal.SIGTERM)
        *_, last = filter(None, lines)
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert server.ended() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("heard")
def test_keys_and_a_config_file(process: Callable[..., Process], cli: Cli, tmp_path: Path) -> None:
    key = cli("keys", "add", "keys.yaml", "--name", "alice", "--usd", "0.5").out.strip()
    Path("prices.yaml").write_text("fake: {input: 10, output: 40}\n")
    Path("pair.yaml").write_text(
        "mentor: fake\nintern: fake\nprices: prices.yaml\nserve:\n  strategy: fixed:low=7\n  max-body: 2000\n"
    )
    server = process("--config", "pair.yaml", "--keys", "keys.yaml", "--host", "127.0.0.1")
    server.ready()
    with OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        asked: Any = [{"role": "user", "content": "What is 17*23?"}]
        usage = client.chat.completions.create(model="fixed:low=7", messages=asked).usage
        assert usage and usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens == 7
    with server.client() as client:
        assert client.get("/v1/models").status_code == 401
        client.headers["Authorization"] = f"Bearer {key}"
        assert client.post("/v1/chat/completions", json=chat(content="x" * 3000)).status_code == 413
    os.kill(server.running.pid, signal.SIGINT)
    assert server.ended() == 130
    assert server.said[1:] == ["\n", "tandem: interrupted\n"] and key not in "".join(server.said)
    told = json.loads(cli("keys", "list", "keys.yaml", "--json").out)
    assert told[0]["name"] == "alice" and 0 < told[0]["spent_usd"] < 0.5


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "anyone on the network can spend your money: give --keys FILE, or --allow-anyone"),
        (["--host", "::"], "at :: anyone on the network"),
        (["--host", "no.such.host.invalid", "--allow-anyone"], "cannot listen on no.such.host.invalid:8080"),
        (["--host", "192.0.2.1", "--allow-anyone"], "cannot listen on 192.0.2.1:8080: Cannot assign requested address"),
        (["--port", "{taken}"], "cannot listen on 127.0.0.1:{taken}: Address already in use; take another --host or"),
        (["--port", "70000"], "'--port': 70000 is not in the range 0<=x<=65535"),
        (["--aim", "cheap=fake"], "'cheap'"),
        (["--aim", "cost:0.6"], "was trained for another pair and has no operating point for your aim 'cost:0.6'"),
        (["--aim", "cost:0.6", "--aim", "gain"], "--aim names 2 aims without a classifier (cost:0.6, gain)"),
        (["--aim", "cost:0.6="], "--aim takes AIM or AIM=CLASSIFIER, as cost:0.6=classifiers/cheap, not 'cost:0.6='"),
        (["--aim", "cost:0.6=nobody"], "unknown classifier 'nobody'"),
        (["--aim", "cost:two=x"], "cost:two"),
        (
            ["--keys", "none.yaml"],
            "there is no key file none.yaml; make one with `tandem keys add none.yaml --name NAME`",
        ),
        (["--keys", "."], "'--keys': File '.' is a directory"),
        (["--concurrency", "0"], "'--concurrency': 0 is not in the range x>=1"),
        (["--deadline", "0"], "'--deadline': 0.0 is not in the range x>0"),
        (["--deadline", "nan"], "'--deadline': nan is not a finite number"),
        (["--queue", "-1"], "'--queue'"),
        (["--max-body", "10"], "'--max-body': 10 is not in the range x>=1024"),
        (["--strategy", "tandm"], "unknown strategy 'tandm'. Did you mean tandem, random-mix?"),
        (["--prices", "none.yaml"], "none.yaml"),
        (["extra"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_one_line_and_exit_code_2(cli: Cli, taken: int, arguments: list[str], said: str) -> None:
    outcome = cli(*SERVE, *(word.format(taken=taken) for word in arguments))
    assert (outcome.code, outcome.out) == (2, "")
    assert said.format(taken=taken) in outcome.err
    assert outcome.err.startswith("tandem: ") and outcome.err.count("\n") == 1


@pytest.mark.parametrize("text", ["keys: []", "keys: [{name: alice}]", "{"])
def test_a_key_file_that_cannot_be_used(cli: Cli, text: str) -> None:
    Path("keys.yaml").write_text(text)
    outcome = cli(*SERVE, "--keys", "keys.yaml")
    assert outcome.code == 2 and "keys.yaml" in outcome.err and outcome.err.count("\n") == 1


def test_a_budget_that_cannot_be_kept_is_told_at_once(cli: Cli) -> None:
    cli("keys", "add", "keys.yaml", "--name", "alice", "--usd", "5")
    remote = ("--mentor", "big-one", "--mentor-endpoint", "https://models.example.com/v1", "--intern", "fake")
    outcome = cli("serve", *remote, "--keys", "keys.yaml")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "alice" in outcome.err and "big-one" in outcome.err and "--prices FILE" in outcome.err


def test_help_has_examples(cli: Cli) -> None:
    told = cli("serve", "--help").out
    assert "Examples:" in told and "--allow-anyone" in told and "extra_body" in told
