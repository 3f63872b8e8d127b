"""A run against an endpoint that fails three requests in ten: it completes, and its books agree with the server's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Cli, dataset
from scripted_pair import PROBE
from stub import Chaos, Reply, Stub

from tandem.storage.jsonl import read_lines

PROBLEMS = 120


@pytest.mark.slow
def test_every_failure_is_in_the_record_and_the_books_agree(
    cli: Cli, serve: Callable[[Stub], Stub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.002)
    chaos = Chaos(0.3, seed=11)

    def respond(body: dict[str, Any]) -> Reply:
        # The look at what the server can do is before the run and not in its books.
        return Reply(tokens=("1, 2",)) if body["messages"][0]["content"].startswith(PROBE) else chaos(body)

    stub = serve(Stub(respond=respond, models=[{"id": "mentor"}, {"id": "intern"}]))
    pair = ("--mentor", "mentor", "--mentor-endpoint", stub.url, "--intern", "intern", "--intern-endpoint", stub.url)
    wishes = ("--strategy", "fixed:low=20", "--request-timeout", "4", "--concurrency", "32")
    own = dataset(tmp_path / "own.jsonl", PROBLEMS)
    outcome = cli("run", *pair, *wishes, "--dataset", own, "--out", "out", "--json")
    assert outcome.code == 0 and "Traceback" not in outcome.err
    summary, records = json.loads(outcome.out), list(read_lines(tmp_path / "out" / "records.jsonl"))
    assert summary["n"] == len({r["problem"] for r in records}) == PROBLEMS

    entries = [e for r in records for e in r["ledger"]["entries"]]
    asked = [chat for chat in stub.chats if not chat.body["messages"][0]["content"].startswith(PROBE)]
    failed = [e["error"] for e in entries if e["error"]]
    # One entry a request, whatever became of it; one that met a connection being reset never came to be read.
    unread = len(entries) - len(asked)
    assert 0 <= unread <= 5
    # A stream that breaks after the last token that was asked for has failed in nothing but its report.
    unreported = [e for e in entries if not e["error"] and e["usage"]["source"] != "reported"]
    struck = chaos.struck.total()
    assert struck > 0.2 * len(asked) and len(failed) == summary["failed_calls"] >= struck - len(unreported)
    assert all(e["usage"]["completion"] == 20 for e in unreported)
    own = [error for error in failed if "sent nothing" in error]  # slow machines stall by themselves
    assert len(failed) - len(own) <= struck + unread
    # Only a refusal or an overflow cannot be mended by another try.
    assert summary["errors"] == sum(r["error"] is not None for r in records) < PROBLEMS / 4
    assert all("refused" in r["error"] or "too long" in r["error"] for r in records if r["error"])

    whole = [chat for chat in asked if chat.ended == "whole"]
    reported = [e["usage"] for e in entries if e["usage"]["source"] == "reported"]
    assert sum(u["prompt"] for u in reported) == sum(chat.billed_prompt for chat in whole)
    assert sum(u["completion"] for u in reported) == sum(chat.billed_completion for chat in whole)
    cut = [e["usage"] for e in entries if e["usage"]["source"] != "reported"]
    billed = [(chat.billed_prompt, chat.billed_completion) for chat in asked if chat.ended not in ("whole", "refused")]
    assert billed and sum(u["completion"] for u in cut) <= sum(b for _, b in billed)
    assert sum(b for _, b in billed) <= sum(max(u["completion"], u["completion_bound"] or 0) for u in cut)
    assert sum(u["prompt"] for u in cut) <= sum(a for a, _ in billed)
    assert sum(a for a, _ in billed) <= sum(max(u["prompt"], u["prompt_bound"] or 0) for u in cut)

    events = Counter(row["event"] for row in read_lines(tmp_path / "out" / "calls.jsonl"))
    assert events["open"] == events["end"] and events["end"] + events["failed"] == len(entries)
