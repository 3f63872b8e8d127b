"""Progressive collection on fake models: every row once, whatever interrupts it, and a table without texts."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tandem.collection.collector import Collector
from tandem.collection.manifest import describe_collection, open_manifest
from tandem.collection.plan import CollectionPlan, Key, estimate, shard_of
from tandem.collection.rows import Folder, calls, export, export_parquet, spent
from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.ladder import parse_ladder
from tandem.models.base import Delta, Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.spec import Continuation, Prices
from tandem.storage.jsonl import encode, read_lines
from tandem.sufficiency.signals import NAMES
from tandem.types import Problem, Sampling

LADDER = "none,low=10,medium=30,high=200,answer"
LEVELS = ["none", "low", "medium", "high", "answer"]
HINTS = (20, 40, 60)
LONG = "one two three four five six seven eight nine ten , so \\boxed{7}"


def problems(n: int) -> list[Problem]:
    return [Problem.from_text(f"Zebras number {i}, so how many?", id=f"p{i}", reference=str(i)) for i in range(n)]


def plan(ladder: str = LADDER, **more: Any) -> CollectionPlan:
    return CollectionPlan(ladder=parse_ladder(ladder), **more)


def collector(
    out: Path,
    *,
    mentor: FakeModel | None = None,
    intern: FakeModel | None = None,
    of: CollectionPlan | None = None,
    **more: Any,
) -> Collector:
    return Collector(
        mentor or FakeModel(Script(), parameters=7e9), intern or FakeModel(Script()), of or plan(), out, **more
    )


def rows(out: Path) -> list[dict[str, Any]]:
    return list(Folder(out, write=False).rows())


def in_prefix_mode(script: Script | None = None) -> FakeModel:
    model = FakeModel(script)
    model.spec = model.spec.model_copy(update={"insight_mode": "prefix"})
    return model


async def test_a_row_for_every_problem_and_level_of_one_insight(tmp_path: Path) -> None:
    mentor = FakeModel(Script())
    progress = await collector(tmp_path, mentor=mentor).collect(problems(6), concurrency=3)
    assert (progress.ended, progress.failed, progress.rows, progress.stopped) == (6, 0, 30, None)
    found = list(read_lines(tmp_path / "rows.jsonl"))
    assert sorted((r["problem"], r["level"]) for r in found) == sorted((f"p{i}", k) for i in range(6) for k in LEVELS)
    assert len(mentor.calls) == 12  # one insight and one answer a problem
    by_level = {r["level"]: r for r in found if r["problem"] == "p3"}
    assert all(by_level[level]["correct"] and by_level[level]["extracted"] for level in LEVELS)
    assert [by_level[level]["insight_tokens"] for level in LEVELS[:4]] == [0, 10, 30, 48]
    assert by_level["high"]["insight"].startswith(by_level["low"]["insight"])
    assert [by_level[level]["insight_finished"] for level in LEVELS[1:4]] == [False, False, True]
    assert {"16", "32", "64", "128", "all"} <= set(by_level["low"]["signals"])
    assert set(by_level["low"]["signals"]["all"]) == set(NAMES)
    assert "signals" not in by_level["answer"]


async def test_a_level_whose_insight_is_no_longer_copies_the_row_before(tmp_path: Path) -> None:
    intern = FakeModel(Script())
    await collector(tmp_path, intern=intern, of=plan("low=20,medium=100,high=200")).collect(problems(2))
    by_level = {r["level"]: r for r in rows(tmp_path) if r["problem"] == "p1"}
    assert {level: r["same"] for level, r in by_level.items()} == {"low": False, "medium": False, "high": True}
    assert len(intern.calls) == 4
    differing = {k for k in by_level["high"] if by_level["high"][k] != by_level["medium"][k]}
    assert differing == {"level", "same"}


async def test_a_copied_row_is_found_again_after_a_stop(tmp_path: Path) -> None:
    of = plan("none,low=20,medium=100,high=200")
    await collector(tmp_path, of=of).collect(problems(1))
    lines = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(line for line in lines if b'"level":"high"' not in line))
    mentor, intern = FakeModel(Script()), FakeModel(Script())
    await collector(tmp_path, of=of, mentor=mentor, intern=intern).collect(problems(1))
    assert (len(mentor.calls), len(intern.calls)) == (0, 0)
    assert {r["level"] for r in rows(tmp_path)} == {"none", "low", "medium", "high"}


async def test_in_prefix_mode_the_answer_is_the_insights_source(tmp_path: Path) -> None:
    mentor = in_prefix_mode(Script(rules=(Rule(text=LONG),)))
    await collector(tmp_path, mentor=mentor, of=plan("none,low=3,high=8,answer")).collect(problems(2))
    assert [call.purpose for call in mentor.calls] == ["answer", "answer"]
    by_level = {r["level"]: r for r in rows(tmp_path) if r["problem"] == "p0"}
    assert by_level["low"]["insight"] == "one two three"
    assert by_level["low"]["text"].startswith("one two three") and by_level["high"]["insight_tokens"] == 8
    assert by_level["answer"]["text"] == LONG


async def test_hints_are_cut_from_the_answer_and_continued(tmp_path: Path) -> None:
    mentor, intern = FakeModel(Script(rules=(Rule(text=LONG, purpose="answer"),))), FakeModel(Script())
    await collector(tmp_path, mentor=mentor, intern=intern, of=plan("none", hints=HINTS)).collect(problems(1))
    assert [call.purpose for call in mentor.calls] == ["answer"]
    found = {r["level"]: r for r in rows(tmp_path)}
    assert {level: r.get("hint_tokens") for level, r in found.items()} == {
        "none": None,
        "hint-20": 2,
        "hint-40": 5,
        "hint-60": 7,
    }
    assert found["hint-40"]["text"].startswith("one two three four five") and set(found["hint-20"]["signals"]["16"])


async def test_hints_of_no_token_copy_the_intern_alone(tmp_path: Path) -> None:
    mentor, intern = FakeModel(Script(rules=(Rule(text="7 indeed"),))), FakeModel(Script())
    await collector(tmp_path, mentor=mentor, intern=intern, of=plan("none", hints=HINTS)).collect(problems(1))
    found = {r["level"]: r for r in rows(tmp_path)}
    assert [found[f"hint-{share}"]["same"] for share in HINTS] == [True, True, False]
    assert len(intern.calls) == 2 and found["hint-20"]["text"] == found["none"]["text"]


async def test_an_intern_that_continues_nothing_is_refused_for_hints(tmp_path: Path) -> None:
    intern = FakeModel(Script(continuation=Continuation.NONE))
    with pytest.raises(CapabilityError, match="hints"):
        collector(tmp_path, intern=intern, of=plan(hints=HINTS))
    with pytest.raises(CapabilityError, match="no log-probabilities"):
        collector(tmp_path, intern=FakeModel(Script(logprobs=False)))


async def test_samples_are_rows_of_their_own_with_seeds_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="temperature 0 are all the same"):
        plan(samples=3)
    intern, mentor = FakeModel(Script()), FakeModel(Script())
    of = plan("none,low=10,answer", samples=3, sampling=Sampling(temperature=0.7, seed=5))
    await collector(tmp_path, of=of, intern=intern, mentor=mentor).collect(problems(2))
    keys = {(r["level"], r.get("sample", 0)) for r in rows(tmp_path)}
    assert keys == {(level, s) for level in ("none", "low") for s in range(3)} | {("answer", 0)}
    assert sorted(call.sampling.seed or 0 for call in intern.calls) == sorted([5, 6, 7] * 4)
    assert len(mentor.calls) == 4


async def test_what_is_there_is_not_collected_again(tmp_path: Path) -> None:
    await collector(tmp_path).collect(problems(2))
    mentor = FakeModel(Script())
    progress = await collector(tmp_path, mentor=mentor).collect(problems(3))
    assert progress.rows == 5 and len(list(read_lines(tmp_path / "rows.jsonl"))) == 15
    assert len(mentor.calls) == 2  # of the third problem alone


async def test_hints_added_later_use_the_answers_that_are_there(tmp_path: Path) -> None:
    mentor = FakeModel(Script(rules=(Rule(text=LONG, purpose="answer"),)))
    await collector(tmp_path, mentor=mentor).collect(problems(2))
    asked = len(mentor.calls)
    await collector(tmp_path, mentor=mentor, of=plan(hints=HINTS)).collect(problems(2))
    assert len(mentor.calls) == asked
    assert len(rows(tmp_path)) == 16


async def test_a_folder_of_before_goes_on_without_buying_its_texts_again(tmp_path: Path) -> None:
    """Older folders had no texts.jsonl: rows tell what the mentor wrote."""
    await collector(tmp_path).collect(problems(2))
    complete = {(r["problem"], r["level"]): r for r in rows(tmp_path)}
    lines = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"level":"low"' not in line]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(kept))
    for name in ("texts.jsonl", "calls.jsonl"):
        (tmp_path / name).unlink()
    mentor = FakeModel(Script())
    await collector(tmp_path, mentor=mentor, of=plan(hints=HINTS)).collect(problems(2))
    assert mentor.calls == []
    found = {(r["problem"], r["level"]): r for r in rows(tmp_path)}
    assert found["p0", "low"] == complete["p0", "low"] and len(found) == 16


async def test_a_text_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    await collector(whole).collect(problems(1))
    mentor = FakeModel(Script(token_seconds=0.01))
    slow = collector(tmp_path / "cut", mentor=mentor)
    task = asyncio.create_task(slow.collect(problems(1)))
    await asyncio.sleep(0.25)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = FakeModel(Script())
    await collector(tmp_path / "cut", mentor=again).collect(problems(1))
    insight = next(call for call in again.calls if call.purpose == "insight")
    assert isinstance(insight.prefix, str) and len(insight.prefix) > len("Goal:")
    assert insight.max_tokens < 200
    undisturbed, resumed = (sorted(rows(f), key=lambda r: r["level"]) for f in (whole, tmp_path / "cut"))
    assert resumed == undisturbed
    written = sum(row["completion"] for row in calls(tmp_path / "cut") if row.get("role") == "mentor" and "usd" in row)
    assert written == 48 + 10  # not one token twice: insight and answer


async def test_a_mentor_that_cannot_go_on_ends_its_text_before_a_stop(tmp_path: Path) -> None:
    mentor = FakeModel(Script(continuation=Continuation.NONE, token_seconds=0.005))
    slow = collector(tmp_path, mentor=mentor)
    task = asyncio.create_task(slow.collect(problems(1)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mentor.aborted == []
    again = FakeModel(Script(continuation=Continuation.NONE))
    await collector(tmp_path, mentor=again).collect(problems(1))
    assert again.calls == []


async def test_a_failed_problem_is_written_down_and_made_up_for(tmp_path: Path) -> None:
    fault = Rule(text="Goal: a b c", when="number 1,", purpose="insight", fault="no luck", fault_after=2)
    broken = FakeModel(Script(rules=(fault,)))
    assert (await collector(tmp_path, mentor=broken).collect(problems(3))).failed == 1
    assert list(read_lines(tmp_path / "errors.jsonl")) == [{"problem": "p1", "error": "no luck"}]
    assert len(rows(tmp_path)) == 12  # the other levels of p1 are there
    assert (await collector(tmp_path).collect(problems(3))).failed == 0
    pairs = [(r["problem"], r["level"]) for r in read_lines(tmp_path / "rows.jsonl")]
    assert len(pairs) == len(set(pairs)) == 15


async def test_a_server_that_is_down_does_not_fail_every_problem(tmp_path: Path) -> None:
    down = FakeModel(Script(rules=(Rule(text="", fault="cannot reach it"),)))
    progress = await collector(tmp_path, intern=down).collect(problems(90), concurrency=4)
    assert progress.failed < 30 and progress.stopped is not None and progress.stopped.endswith("cannot reach it")


async def test_a_damaged_row_is_collected_again(tmp_path: Path) -> None:
    await collector(tmp_path).collect(problems(1))
    path = tmp_path / "rows.jsonl"
    head, low, rest = path.read_text().partition('"level":"low"')
    path.write_text(head + low + rest.replace('"correct":true', '"correct":false', 1))
    mentor = FakeModel(Script())
    await collector(tmp_path, mentor=mentor).collect(problems(1))
    assert mentor.calls == [] and len(rows(tmp_path)) == 5
    assert all(row["correct"] for row in rows(tmp_path)) and (tmp_path / "rows.damaged.jsonl").exists()


async def test_no_problem_starts_after_the_time(tmp_path: Path) -> None:
    progress = await collector(tmp_path).collect(problems(3), max_seconds=0)
    assert progress.rows == 0 and progress.stopped is not None and "--max-minutes" in progress.stopped


async def test_the_money_is_never_overspent(tmp_path: Path) -> None:
    mentor = FakeModel(Script())
    prices = Prices(input=100.0, output=1000.0)
    mentor.spec = mentor.spec.model_copy(update={"prices": prices, "local": False})
    progress = await collector(tmp_path, mentor=mentor, max_usd=1.1).collect(problems(9), concurrency=2)
    assert progress.stopped is not None and "--max-usd" in progress.stopped
    assert 0 < spent(tmp_path) <= 1.1 and 0 < progress.rows < 45
    assert progress.usd == pytest.approx(spent(tmp_path))


async def test_what_was_in_flight_when_killed_counts_as_spent(tmp_path: Path) -> None:
    line = {"call": "1", "event": "open", "problem": "p0", "purpose": "answer", "at": 0, "role": "mentor"}
    (tmp_path / "calls-3.jsonl").write_text(json.dumps(line | {"cap": 10, "usd_bound": 0.5}) + "\n")
    assert spent(tmp_path) == 0.5


def test_another_ladder_or_pair_is_refused_by_name(tmp_path: Path) -> None:
    tell = lambda mentor, of: open_manifest(tmp_path, describe_collection(of, mentor, FakeModel(Script())))  # noqa: E731
    first = tell(FakeModel(Script()), plan())
    assert tell(FakeModel(Script()), plan(hints=HINTS))["hints"] == list(HINTS)  # may be added
    assert tell(FakeModel(Script()), plan())["started"] == first["started"]
    with pytest.raises(UsageError, match=r"another ladder .*take another --out"):
        tell(FakeModel(Script()), plan("none,low=20,answer"))
    with pytest.raises(UsageError, match="another mentor"):
        tell(FakeModel(Script(), name="other"), plan())


def test_a_manifest_of_before_is_compared_by_what_it_says(tmp_path: Path) -> None:
    now = describe_collection(plan(), FakeModel(Script()), FakeModel(Script()))
    old = ("mentor", "intern", "ladder", "max_tokens", "sampling", "top_logprobs", "estimator", "insight_mode")
    (tmp_path / "collection.json").write_text(json.dumps({k: now[k] for k in old} | {"signal_version": "0"}))
    assert open_manifest(tmp_path, now)["signal_version"] == now["signal_version"]
    (tmp_path / "collection.json").write_text(json.dumps({k: now[k] for k in old} | {"max_tokens": 5}))
    with pytest.raises(UsageError, match="another max_tokens"):
        open_manifest(tmp_path, now)


async def test_the_table_has_no_text_of_anybody(tmp_path: Path) -> None:
    await collector(tmp_path).collect(problems(4))
    own = rows(tmp_path)
    words = {w for r in own for w in f"{r['text']} {r.get('insight', '')}".split() if len(w) > 3}
    assert {"equation", "numbers", "\\boxed{3}"} <= words  # the rows have them
    assert export(own, tmp_path / "a" / "table.jsonl.gz") == 20
    packed = (tmp_path / "a" / "table.jsonl.gz").read_bytes()
    table = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]
    assert [(r["problem"], r["level"]) for r in table] == sorted((f"p{i}", k) for i in range(4) for k in LEVELS)
    strings = {(key, value) for row in table for key, value in row.items() if isinstance(value, str)}
    assert {key for key, _ in strings} == {"problem", "level", "task"}  # ids, level names, kinds; all else is numbers
    assert b"Zebras" not in gzip.decompress(packed)
    export([*reversed(own), *own], tmp_path / "b.gz")
    assert (tmp_path / "b.gz").read_bytes() == packed  # neither order nor what is there twice shows


async def test_signals_of_the_table_are_made_anew_and_added_ones_stay(tmp_path: Path) -> None:
    await collector(tmp_path).collect(problems(1))
    own = [row for row in rows(tmp_path) if row["level"] == "low"]
    aged = [row | {"signals": {"16": {"of_old": 1.0}, "published": {"ppl": 2.0}}} for row in own]
    export(aged, tmp_path / "t.gz")
    signals = json.loads(gzip.decompress((tmp_path / "t.gz").read_bytes()))["signals"]
    assert signals["published"] == {"ppl": 2.0} and signals["question"]
    assert {k: signals[k] for k in ("16", "all")} == {k: own[0]["signals"][k] for k in ("16", "all")}


async def test_the_parquet_table_has_flat_columns(tmp_path: Path) -> None:
    from pyarrow import parquet

    await collector(tmp_path).collect(problems(2))
    assert export_parquet(rows(tmp_path), tmp_path / "t.parquet") == 10
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.num_rows == 10 and {"problem", "level", "sample", "signals.32.entropy_mean"} <= set(table.column_names)
    assert not {"text", "insight", "stats"} & set(table.column_names)
    by_level = dict(zip(table["level"].to_pylist(), table["signals.32.entropy_mean"].to_pylist(), strict=True))
    assert by_level["answer"] is None and by_level["low"] > 0


def test_an_estimate_counts_what_is_missing() -> None:
    of, mentor, intern = plan(hints=HINTS), FakeModel(Script()), FakeModel(Script())
    whole = estimate(of, mentor, intern, problems(2), lambda key: False, lambda problem, source: False)
    assert whole["problems"] == 2 and whole["calls"] == {"mentor": 4, "intern": 14}
    assert whole["at_most"]["mentor_tokens"] == 2 * (200 + 768)
    assert whole["at_most"]["intern_tokens"] == 14 * 768
    done = {Key("p0", level) for level in LEVELS} | {Key("p0", f"hint-{share}") for share in HINTS}
    half = estimate(of, mentor, intern, problems(2), done.__contains__, lambda problem, source: source == "answer")
    assert half["problems"] == 1 and half["calls"] == {"mentor": 1, "intern": 7}
    one = estimate(of, in_prefix_mode(), intern, problems(1), lambda key: False, lambda problem, source: False)
    assert one["calls"]["mentor"] == 1


def test_every_problem_falls_to_one_worker() -> None:
    ids = [f"gsm8k-train-{i:05}" for i in range(1000)]
    counts = [sum(shard_of(i, 4) == worker for i in ids) for worker in range(4)]
    assert sum(counts) == 1000 and min(counts) > 200


async def test_collecting_can_be_cancelled(tmp_path: Path) -> None:
    mentor = FakeModel(Script(token_seconds=0.05))
    task = asyncio.create_task(collector(tmp_path, mentor=mentor).collect(problems(2)))
    while not mentor.calls:  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(mentor.aborted) == len(mentor.calls)  # nothing writes on


async def test_a_budget_is_the_answer_where_that_is_short_and_one_more_call_where_it_is_not(tmp_path: Path) -> None:
    mentor = FakeModel(Script(rules=(Rule(text=LONG, purpose="answer"),)))
    progress = await collector(tmp_path, mentor=mentor, of=plan("none,answer", budgets=(4, 50))).collect(problems(1))
    assert (progress.failed, len(mentor.calls)) == (0, 2)
    found = {r["level"]: r for r in rows(tmp_path)}
    assert (found["budget-50"]["same"], found["budget-4"]["same"]) == (True, False)
    assert found["budget-50"]["text"] == found["answer"]["text"] == LONG
    assert found["budget-4"]["text"].startswith("one two three four\n\nThe final answer is \\boxed{")
    assert mentor.calls[1].prefix == "one two three four\n\nThe final answer is \\boxed{"
    # As if it had gone on at once: the question is read once, and the cue and what follows it are written.
    row, whole = found["budget-4"], found["answer"]
    cue, written = 5, len(mentor._rule(mentor.calls[1]).text.split())
    assert row["prompt_tokens"] == whole["prompt_tokens"] and row["completion_tokens"] == 4 + cue + written


async def test_budgets_added_later_use_the_answers_that_are_there(tmp_path: Path) -> None:
    script = Script(rules=(Rule(text=LONG, purpose="answer"),))
    await collector(tmp_path, mentor=FakeModel(script), of=plan("none,answer")).collect(problems(2))
    mentor, intern, of = FakeModel(script), FakeModel(Script()), plan("none,answer", budgets=(4,))
    told = estimate(of, mentor, intern, problems(2), Folder(tmp_path, write=False).__contains__, lambda *_: True)
    assert told["rows"] == {"budget-4": 2} and told["calls"] == {"mentor": 2, "intern": 0}
    await collector(tmp_path, mentor=mentor, intern=intern, of=of).collect(problems(2))
    assert (len(mentor.calls), len(intern.calls)) == (2, 0)  # the forced ends alone
    again = FakeModel(script)
    await collector(tmp_path, mentor=again, intern=intern, of=of).collect(problems(2))
    assert again.calls == [] and sum(r["level"] == "budget-4" for r in rows(tmp_path)) == 2


async def test_a_mentor_that_cannot_go_on_reads_everything_again(tmp_path: Path) -> None:
    script = Script(rules=(Rule(text="\\boxed{0}", when="Stop there"), Rule(text=LONG)), continuation=Continuation.NONE)
    mentor = FakeModel(script)
    await collector(tmp_path, mentor=mentor, of=plan("none,answer", budgets=(4,))).collect(problems(1))
    forced = mentor.calls[1]
    assert forced.prefix is None and [m.role for m in forced.messages] == ["user", "assistant", "user"]
    found = {r["level"]: r for r in rows(tmp_path)}
    row, whole = found["budget-4"], found["answer"]
    assert row["text"] == "one two three four\n\n\\boxed{0}" and row["correct"] and not whole["correct"]
    read = sum(mentor.count(m.content) for m in forced.messages)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (whole["prompt_tokens"] + read, 4 + 1)


async def test_a_mentor_that_thinks_ends_its_thinking(tmp_path: Path) -> None:
    mentor = in_prefix_mode(Script(rules=(Rule(text=LONG),)))
    await collector(tmp_path, mentor=mentor, of=plan("none,low=3,answer", budgets=(4,))).collect(problems(1))
    assert len(mentor.calls) == 2  # the levels, the answer and what is cut are of one text
    assert mentor.calls[1].prefix == "one two three four\n</think>\n\n" and mentor.calls[1].max_tokens == 768


async def test_a_budget_that_fails_leaves_the_others_and_is_made_up_for(tmp_path: Path) -> None:
    class Mentor(FakeModel):
        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            if str(request.prefix).startswith("one two\n"):
                raise EndpointError("no luck")
            async for delta in super().stream(request):
                yield delta

    script, of = Script(rules=(Rule(text=LONG),)), plan("none,answer", budgets=(2, 4, 6))
    assert (await collector(tmp_path, mentor=Mentor(script), of=of).collect(problems(1))).failed == 1
    assert {r["level"] for r in rows(tmp_path)} == {"none", "answer", "budget-4", "budget-6"}
    again = FakeModel(script)
    assert (await collector(tmp_path, mentor=again, of=of).collect(problems(1))).failed == 0
    assert [call.prefix for call in again.calls] == ["one two\n\nThe final answer is \\boxed{"]
    assert len(rows(tmp_path)) == 5


async def test_a_mentor_cut_at_the_cap_is_made_to_end_below_it_only(tmp_path: Path) -> None:
    mentor, of = FakeModel(Script(rules=(Rule(text=LONG),))), plan("none,answer", budgets=(4, 6, 9), max_tokens=6)
    told = estimate(of, mentor, FakeModel(Script()), problems(1), lambda key: False, lambda *_: False)
    assert told["rows"] == {"none": 1, "answer": 1, "budget-4": 1, "budget-6": 1, "budget-9": 1}
    assert told["calls"] == {"mentor": 2, "intern": 1} and told["at_most"]["mentor_tokens"] == 6 + 6
    await collector(tmp_path, mentor=mentor, of=of).collect(problems(1))
    assert len(mentor.calls) == 2
    found = {r["level"]: r for r in rows(tmp_path)}
    assert found["budget-6"]["truncated"] and found["budget-6"]["text"] == found["answer"]["text"]
    assert (found["budget-4"]["same"], found["budget-6"]["same"], found["budget-9"]["same"]) == (False, True, True)


async def test_budgets_alone_buy_the_answer_that_they_are_cut_from(tmp_path: Path) -> None:
    mentor, intern, of = FakeModel(Script(rules=(Rule(text=LONG),))), FakeModel(Script()), plan("none", budgets=(4,))
    told = estimate(of, mentor, intern, problems(3), lambda key: False, lambda *_: False)
    assert told["calls"] == {"mentor": 6, "intern": 3}
    assert told["at_most"]["mentor_tokens"] == 3 * (768 + 48)  # the answer, and 48 tokens to end it
    await collector(tmp_path, mentor=mentor, intern=intern, of=of).collect(problems(3))
    assert (len(mentor.calls), len(intern.calls)) == (6, 3)
    assert {r["level"] for r in rows(tmp_path)} == {"none", "budget-4"}


def test_budgets_may_be_added_to_a_collection_of_before(tmp_path: Path) -> None:
    tell = lambda *budgets: open_manifest(  # noqa: E731
        tmp_path, describe_collection(plan(budgets=budgets), FakeModel(Script()), FakeModel(Script()))
    )
    old = tell()
    del old["budgets"]  # nobody wrote them down then
    (tmp_path / "collection.json").write_text(json.dumps(old))
    assert tell(150)["budgets"] == [150] and tell(50, 400)["budgets"] == [50, 150, 400]
    assert tell()["budgets"] == [50, 150, 400] and tell()["started"] == old["started"]


async def test_the_table_has_budgets_in_numbers(tmp_path: Path) -> None:
    of = plan("none,answer", budgets=(4,))
    await collector(tmp_path, mentor=FakeModel(Script(rules=(Rule(text=LONG),))), of=of).collect(problems(1))
    assert export(rows(tmp_path), tmp_path / "t.gz") == 3
    table = [json.loads(line) for line in gzip.decompress((tmp_path / "t.gz").read_bytes()).splitlines()]
    (row,) = [row for row in table if row["level"] == "budget-4"]
    assert row["completion_tokens"] > 4 and "text" not in row


def test_budgets_rise() -> None:
    with pytest.raises(UsageError, match="budgets are rising numbers of tokens, not 50,4"):
        plan(budgets=(50, 4))


async def test_calls_that_older_versions_wrote_count_beside_those_of_today(tmp_path: Path) -> None:
    head = {"problem": "p0", "purpose": "answer", "at": 0, "role": "mentor"}
    numbers = {"prompt": 5, "cached": 0, "completion": 7, "usd": 0.25, "seconds": 1.0, "error": None}
    rows = [
        {"call": "1", "event": "open", **head, "cap": 10, "usd_bound": 0.5},
        {"call": "1", "event": "end", **head, **numbers, "usd_bound": 0.25},
        {"call": "2", "event": "open", **head, "cap": 10, "usd_bound": 0.5},  # killed
    ]
    (tmp_path / "calls.jsonl").write_bytes(b"".join(map(encode, rows)))
    assert spent(tmp_path) == 0.75
    mentor = FakeModel(Script())
    mentor.spec = mentor.spec.model_copy(update={"prices": Prices(input=100.0, output=1000.0), "local": False})
    progress = await collector(tmp_path, mentor=mentor, max_usd=9.0).collect(problems(1))
    assert progress.stopped is None and progress.usd == pytest.approx(spent(tmp_path) - 0.75)
    ended = [row for row in calls(tmp_path) if row["event"] == "end"]
    assert ended[0]["completion"] == 7 and len(ended) == 1 + 2 + 4
    assert len({row["call"] for row in ended}) == len(ended)  # no number twice
