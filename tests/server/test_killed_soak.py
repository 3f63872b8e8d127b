"""Mixed requests without end to a server that is killed in their midst: every charge is kept, and each once.

TANDEM_SOAK_REQUESTS is how many; half of them before the kill.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from serve_process import ServeProcess, serve_process
from serving import chat
from wire import Answer, Wire

from tandem.server.keys import add_key

REQUESTS = int(os.environ.get("TANDEM_SOAK_REQUESTS", "400"))
AT_ONCE = 16
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
KINDS = ("chat", "stream", "mentor", "fixed", "raw", "ids", "text", "responses", "streamed responses", "tools", "form")


def asked(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a request."""
    if kind in ("raw", "ids"):
        prompt: Any = text if kind == "raw" else [[7, 8, 9]]
        return "/v1/completions", {"model": "intern", "prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1}
    if kind == "text":
        return "/v1/completions", {"model": "intern", "prompt": [text, text], "max_tokens": 4}
    if "responses" in kind:
        return "/v1/responses", {"model": "intern", "input": text, "stream": kind != "responses"}
    more: dict[str, dict[str, Any]] = {
        "stream": {"stream": True, "stream_options": {"include_usage": True}, "logprobs": True},
        "tools": {"tools": TOOLS},
        "form": {"response_format": {"type": "json_object"}},
    }
    model = {"fixed": "fixed:low", "mentor": "mentor"}.get(kind, "intern")
    return "/v1/chat/completions", chat(model, text, **more.get(kind, {}))


def charged(kind: str, answer: Answer) -> float | None:
    """Return the US$ of an answer that came whole, as it says itself."""
    if answer.status != 200 or not answer.body:
        return None
    if kind == "stream":
        return float(answer.events[-2]["usage"]["tandem"]["usd"]) if b"[DONE]" in answer.body else None
    if kind == "streamed responses":
        last = answer.body.decode().strip().rpartition("data: ")[2]
        return float(json.loads(last)["response"]["usage"]["tandem"]["usd"]) if "response.completed" in last else None
    return float(answer.json["usage"]["tandem"]["usd"])


def noted(folder: Path) -> tuple[dict[str, float], dict[int, float]]:
    """Return what keys have spent by the files, and the bounds of what was in flight."""
    spent = json.loads((folder / "keys.yaml.spent.json").read_text())
    bounds: dict[int, float] = {}
    for row in map(json.loads, (folder / "keys.yaml.open.jsonl").read_text().splitlines()):
        if "open" in row:
            bounds[row["n"]] = row["open"]
        else:
            del bounds[row["n"]]
            spent[row["key"]] = row["spent"]  # the file beside it may be a moment behind
    return spent, bounds


@pytest.mark.slow
@pytest.mark.timeout(600 + REQUESTS / 5)
async def test_a_kill_in_the_midst_of_everything_loses_no_charge_and_doubles_none(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.yaml", "alice", None, 1e6)
    rules = [{"text": '{"a": 1} ' + "word " * 9}]
    script = {"rules": rules, "token_seconds": 0.001, "tools": True}
    (tmp_path / "pair.json").write_text(json.dumps(script))
    (tmp_path / "prices.yaml").write_text("'fake:pair.json': {input: 10, output: 40}\n")
    options = ("--mentor", "fake:pair.json", "--intern", "fake:pair.json", "--keys", "keys.yaml")
    options += ("--prices", "prices.yaml", "--queue", "64", "--no-access-log", "--strategy", "fixed:low")
    draw, ends, seen, sent = random.Random(0), Counter[str](), list[float](), 0

    async def work(server: ServeProcess, number: int, kill: int | None) -> None:
        nonlocal sent
        wire = Wire(server.url, key)
        while sent < number:
            sent += 1
            kind = draw.choice(KINDS)
            if sent == kill:
                os.kill(server.pid, signal.SIGKILL)
            try:
                answer = await wire.post(*asked(kind, f"case {sent}: 1+{sent}, as JSON?"))
            except (OSError, EOFError, asyncio.IncompleteReadError, ValueError):
                ends["lost"] += 1
                if kill and sent >= kill:
                    return
                continue
            ends[str(answer.status)] += 1
            assert answer.status in (200, 502), (kind, answer)
            if (usd := charged(kind, answer)) is not None:
                seen.append(usd)
        wire.close()

    async with serve_process(tmp_path, *options) as server:
        await asyncio.gather(*(work(server, REQUESTS, REQUESTS // 2) for _ in range(AT_ONCE)))
    before, in_flight = noted(tmp_path)
    assert ends["lost"] and ends["200"] > REQUESTS / 3
    # Everything that a client has an answer of is charged, or its bound is noted.
    assert before["alice"] + sum(in_flight.values()) >= sum(seen) - 1e-9 and 0 < len(in_flight) <= AT_ONCE
    async with serve_process(tmp_path, *options) as server:
        now, none = noted(tmp_path)
        assert now["alice"] == pytest.approx(before["alice"] + sum(in_flight.values())) and none == {}
        known = len(seen)
        await asyncio.gather(*(work(server, REQUESTS, None) for _ in range(AT_ONCE)))
    after, none = noted(tmp_path)
    assert after["alice"] == pytest.approx(now["alice"] + sum(seen[known:])) and none == {}
    print(dict(ends), after, f"{len(in_flight)} in flight")
