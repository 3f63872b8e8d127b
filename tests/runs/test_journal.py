"""The journal: what ended is given again, what was cut is lost at its worst price, and the money limit holds."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine import Tandem
from tandem.errors import EndpointError, LimitReached, TandemError
from tandem.ledger import Ledger, Usage
from tandem.models.base import Request
from tandem.models.cache import ResponseCache
from tandem.models.call import Call
from tandem.models.fake import FakeModel, Rule, Script
from tandem.models.logprobs import token_stat
from tandem.models.recorded import Piece, Recorded, digest, restored
from tandem.runs.journal import CALLS, LOST, Journal
from tandem.runs.runner import run
from tandem.runs.store import RunStore
from tandem.runs.work import Limits
from tandem.spec import Prices
from tandem.storage.jsonl import read_lines
from tandem.types import Message, Problem

MANIFEST = {"run": {"strategy": "tandem", "mentor": {"name": "fake"}, "intern": {"name": "fake"}}}
PRICES = Prices(input=1.0, output=10.0)


def problems(n: int) -> list[Problem]:
    return [Problem.from_text(f"What is {i} plus nothing, {i}?", id=f"p{i}", reference=str(i)) for i in range(n)]


def request(text: str = "What is 2?", **changes: Any) -> Request:
    fields: dict[str, Any] = {"purpose": "answer", "max_tokens": 50, "affinity": "p"} | changes
    return Request(messages=(Message(role="user", content=text),), **fields)


def priced(script: Script | None = None) -> FakeModel:
    model = FakeModel(script or Script())
    model.spec = model.spec.model_copy(update={"prices": PRICES, "local": False})
    return model


@given(
    st.lists(st.tuples(st.text(max_size=6), st.integers(0, 3)), max_size=12),
    st.sampled_from(["stop", "length", None]),
    st.randoms(use_true_random=False),
)
def test_what_is_written_down_reads_the_same(parts: list[tuple[str, int]], finish: Any, draw: Any) -> None:
    tokens = sum(n for _, n in parts)
    stats = tuple(token_stat(-draw.random() * 9, [-draw.random() * 9 for _ in range(20)], 1000) for _ in range(tokens))
    pieces = tuple(Piece(len(text), n, n) for text, n in parts)
    given = Recorded("".join(t for t, _ in parts), pieces, stats, finish, Usage(prompt=3, completion=tokens))
    again = restored(json.loads(json.dumps(given.row())))
    assert again == given
    deltas = list(again.deltas())
    assert "".join(d.text for d in deltas) == given.text and sum(d.tokens for d in deltas) == tokens


def test_the_digest_follows_everything_but_affinity() -> None:
    base = digest("m", request())
    assert digest("m", request(affinity="another")) == base
    others = [
        request("What is 3?"),
        request(max_tokens=51),
        request(prefix="x"),
        request(prefix=(1,)),
        request(top_logprobs=5),
    ]
    assert len({base, digest("n", request()), *(digest("m", other) for other in others)}) == 7


async def read(model: FakeModel, journal: Journal, ask: Request, tokens: int | None = None) -> tuple[Call, Ledger]:
    ledger = Ledger()
    async with Call(model, ask, "mentor", ledger, recorder=journal) as call:
        async for _ in call:
            if tokens is not None and call.tokens >= tokens:
                break
    return call, ledger


async def test_a_finished_call_is_given_again_and_charged_once(tmp_path: Path) -> None:
    model = priced()
    first, bill = await read(model, Journal(tmp_path), request(top_logprobs=20))
    again = Journal(tmp_path)
    second, same_bill = await read(model, again, request(top_logprobs=20))
    assert len(model.calls) == 1 and again.again == 1
    assert (second.text, second.stats, second.finish_reason) == (first.text, first.stats, "stop")
    assert same_bill == bill and bill.usd == again.budget.spent > 0
    third, _ = await read(model, again, request(max_tokens=3))
    assert len(model.calls) == 2 and third.text != first.text  # another request is another call


async def test_an_equal_request_of_one_problem_is_another_sample(tmp_path: Path) -> None:
    model, journal = priced(), Journal(tmp_path)
    await read(model, journal, request())
    ledger = Ledger()
    again = Journal(tmp_path)
    async with Call(model, request(), "mentor", ledger, recorder=again, occurrence=1) as call:
        async for _ in call:
            pass
    assert len(model.calls) == 2


async def test_a_cut_call_is_given_as_far_as_it_came_and_bought_anew_behind_that(tmp_path: Path) -> None:
    model = priced(Script(rules=(Rule(text="one two three four five"),)))
    await read(model, Journal(tmp_path), request(), tokens=2)
    cut, bill = await read(model, Journal(tmp_path), request(), tokens=2)
    assert cut.text == "one two" and len(model.calls) == 1 and len(bill.entries) == 1
    whole, bill = await read(model, Journal(tmp_path), request())
    assert whole.text == "one two three four five" and whole.tokens == 5 and len(model.calls) == 2
    assert [e.usage.completion for e in bill] == [2, 5]  # both were paid
    again, bill = await read(model, Journal(tmp_path), request())
    assert again.text == whole.text and len(model.calls) == 2 and len(bill.entries) == 1


async def test_a_failed_call_is_charged_and_made_again(tmp_path: Path) -> None:
    model = priced(Script(rules=(Rule(text="a b c", fault="no luck", fault_after=2),)))
    journal, ledger = Journal(tmp_path), Ledger()
    with pytest.raises(EndpointError, match="no luck"):
        async with Call(model, request(), "mentor", ledger, recorder=journal) as call:
            async for _ in call:
                pass
    assert ledger.entries[0].error == "no luck" and ledger.entries[0].usage.completion == 2
    mended = priced(Script(rules=(Rule(text="a b c"),)))
    call, bill = await read(mended, Journal(tmp_path), request())
    assert call.text == "a b c" and len(mended.calls) == 1 and bill.entries[0].error is None


async def test_a_call_in_flight_at_a_kill_is_entered_as_possibly_lost(tmp_path: Path) -> None:
    model, journal = priced(), Journal(tmp_path)
    await read(model, journal, request())
    spent = journal.budget.spent
    await journal.open(model, request("What is 3?"), "mentor", 0)  # and the process is killed here
    again = Journal(tmp_path)
    lost = again.lost[0]
    assert lost.error == LOST and lost.usd == 0 and lost.usd_bound == pytest.approx((10 + 64) / 1e6 + 50 * 10 / 1e6)
    assert again.budget.spent == pytest.approx(spent + lost.usd_bound)
    assert not Journal(tmp_path).lost  # entered once
    assert [row["event"] for row in read_lines(tmp_path / CALLS)] == ["open", "end", "open", "lost"]


async def test_the_numbers_go_on_after_a_resume_and_a_torn_tail_costs_one_call(tmp_path: Path) -> None:
    model, journal = priced(), Journal(tmp_path)
    await read(model, journal, request("What is 1?"))
    await read(model, journal, request("What is 2?"))
    whole = (tmp_path / CALLS).read_bytes()
    (tmp_path / CALLS).write_bytes(whole[:-20])
    again = Journal(tmp_path)
    assert [e.call for e in again.lost] == ["2"]  # its end was cut off, so nobody knows
    await read(model, again, request("What is 1?"))
    await read(model, again, request("What is 2?"))
    assert len(model.calls) == 3
    assert [row["call"] for row in read_lines(tmp_path / CALLS) if row["event"] == "open"] == ["1", "2", "3"]


async def test_damage_anywhere_is_said_set_aside_and_costs_only_those_calls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = priced()
    journal = Journal(tmp_path)
    for n in range(4):
        await read(model, journal, request(f"What is {n}0?", affinity=f"p{n}"))
    journal.close_file()
    path = tmp_path / CALLS
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"problem":"p0"', b'"problem":"p\xff"')  # no text
    lines[3] = lines[3].replace(b'"spent":', b'"spent":9.9.')  # no number
    lines[7] = lines[7][:-20]  # cut short
    path.write_bytes(b"".join(lines))
    again = Journal(tmp_path)
    assert [str(path) in said and "skipped" in said for said in caplog.messages] == [True] * 3
    assert "the last line: it was cut short" in caplog.text and "line 2: its checksum does not match" in caplog.text
    assert len(list(read_lines(tmp_path / "calls.damaged.jsonl"))) == 3
    assert 0 < again.budget.spent < 1 and len(again.lost) == 3
    for n in range(4):
        await read(model, again, request(f"What is {n}0?", affinity=f"p{n}"))
    assert again.again == 1 and len(model.calls) == 4 + 3


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes")
async def test_a_journal_that_cannot_be_written_ends_the_run_and_fails_no_problem(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with RunStore.create(tmp_path, MANIFEST) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
            with pytest.raises(TandemError, match=r"cannot write .*calls\.jsonl: File too large"):
                await run(engine(priced(), FakeModel()), problems(30), store, concurrency=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    with RunStore.reopen(tmp_path, MANIFEST) as store:
        assert all(record["error"] is None for record in store.records())
        summary = await run(engine(priced(), FakeModel()), problems(30), store)
    assert summary["n"] == 30 and summary["errors"] == 0


async def test_the_limit_holds_in_the_worst_case(tmp_path: Path) -> None:
    model, journal = priced(), Journal(tmp_path, max_usd=0.0012)
    await read(model, journal, request())
    await read(model, journal, request("What is 3?"))
    with pytest.raises(LimitReached, match="max-usd"):
        for n in range(9):
            await read(model, journal, request(f"What is {n}0?"))
    assert journal.budget.spent <= 0.0012
    assert journal.budget.spent + (74 + 500) / 1e6 > 0.0012  # and it stopped no sooner than it had to


def engine(mentor: FakeModel, intern: FakeModel) -> Tandem:
    return Tandem(mentor, intern, strategy="fixed:medium=40")


async def test_a_run_that_a_limit_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    mentor, intern = priced(), FakeModel(Script())
    store = RunStore.create(tmp_path, MANIFEST)
    with store:
        summary = await run(engine(mentor, intern), problems(12), store, limits=Limits(usd=0.004), concurrency=3)
    assert "--max-usd" in summary["stopped"] and 0 < summary["n"] < 12 and summary["errors"] == 0
    assert summary["usd_bound"] + summary["lost"]["usd_bound"] <= 0.004
    bought = [c.messages[-1].content for c in mentor.calls]
    with RunStore.reopen(tmp_path, MANIFEST) as store:
        summary = await run(engine(mentor, intern), problems(12), store, limits=Limits(usd=1.0))
    assert summary["stopped"] is None and summary["n"] == 12 and summary["accuracy"] == 1.0
    assert len(mentor.calls) == 12 and len(set(bought)) == len(bought)  # no insight was bought twice
    assert summary["lost"]["calls"] == 0


@pytest.mark.slow
async def test_a_run_stops_when_its_time_is_over_and_keeps_what_was_bought(tmp_path: Path) -> None:
    mentor, intern = FakeModel(), FakeModel(Script(token_seconds=0.2))
    with RunStore.create(tmp_path, MANIFEST) as store:
        summary = await run(engine(mentor, intern), problems(4), store, limits=Limits(seconds=1.0))
    assert "--max-minutes" in summary["stopped"] and summary["n"] == 0 and len(mentor.calls) == 4
    quick = FakeModel()
    with RunStore.reopen(tmp_path, MANIFEST) as store:
        summary = await run(engine(mentor, quick), problems(4), store)
    assert summary["n"] == 4 and len(mentor.calls) == 4 and summary["given_again"] >= 4


async def test_what_a_failed_attempt_cost_stays_in_the_summary_when_a_later_one_succeeds(tmp_path: Path) -> None:
    broken = FakeModel(Script(rules=(Rule(text="a b c", when="is 2 plus", fault="no luck", fault_after=2),)))
    mentor = priced()
    with RunStore.create(tmp_path, MANIFEST) as store:
        first = await run(engine(mentor, broken), problems(4), store)
    assert first["errors"] == 1 and first["failed_calls"] == 1 and first["lost"]["calls"] == 0
    with RunStore.reopen(tmp_path, MANIFEST) as store:
        second = await run(engine(mentor, FakeModel()), problems(4), store)
    assert second["errors"] == 0 and len(mentor.calls) == 4
    assert second["lost"]["calls"] == 1 and second["lost"]["intern_tokens"] == 2


@pytest.mark.parametrize("pace", ["eager", "thrifty"])
async def test_a_climb_is_taken_up_without_paying_for_its_insight_again(tmp_path: Path, pace: Any) -> None:
    mentor = priced()
    answers = Script(rules=(Rule(text="w w w w w w w w w w w w", confidence=0.4, fault="gone", fault_after=11),))

    def tandem(intern: FakeModel) -> Tandem:
        return Tandem(mentor, intern, effort="none,low=10,high=30", pace=pace, draft_tokens=4)

    with RunStore.create(tmp_path, MANIFEST) as store:
        first = await run(tandem(FakeModel(answers)), problems(1), store)
    assert first["errors"] == 1
    bought = len(mentor.calls)
    mended = answers.model_copy(update={"rules": (answers.rules[0].model_copy(update={"fault": ""}),)})
    with RunStore.reopen(tmp_path, MANIFEST) as store:
        second = await run(tandem(FakeModel(mended)), problems(1), store)
    assert second["errors"] == 0 and len(mentor.calls) == bought


async def test_the_cache_gives_whole_answers_for_the_very_same_request_only(tmp_path: Path) -> None:
    cache, ledger = ResponseCache(tmp_path), Ledger()
    model = priced()

    async def ask(model: FakeModel, asked: Request, stop: bool = False) -> Call:
        async with Call(model, asked, "mentor", ledger, recorder=cache) as call:
            async for _ in call:
                if stop:
                    break
        return call

    await ask(model, request(), stop=True)  # cut: not kept
    whole = await ask(model, request())
    given = await ask(model, request())
    assert len(model.calls) == 2 and given.text == whole.text
    assert [e.paid for e in ledger] == [True, True, False] and ledger.entries[2].usd == ledger.entries[1].usd
    await ask(model, request(max_tokens=49))
    revised = priced()
    revised.spec = revised.spec.model_copy(update={"revision": "2"})
    await ask(revised, request())
    elsewhere = priced(Script(token_seconds=0.0001))
    await ask(elsewhere, request())
    assert (len(model.calls), len(revised.calls), len(elsewhere.calls)) == (3, 1, 1)


async def test_the_cache_keeps_no_error_and_survives_a_damaged_file(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    broken = FakeModel(Script(rules=(Rule(text="a b c", fault="no luck", fault_after=2),)))
    with pytest.raises(EndpointError):
        async with Call(broken, request(), "intern", Ledger(), recorder=cache) as call:
            async for _ in call:
                pass
    assert not list(tmp_path.rglob("*.json"))  # noqa: ASYNC240
    model = FakeModel()
    for _ in range(2):
        async with Call(model, request(), "intern", Ledger(), recorder=cache) as call:
            async for _ in call:
                pass
        next(tmp_path.rglob("*.json")).write_text("{")  # noqa: ASYNC240
    assert len(model.calls) == 2


async def test_a_cached_run_pays_nothing_and_says_so(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "cache")
    summaries = []
    for name in ("first", "second"):
        mentor = priced()
        with RunStore.create(tmp_path / name, MANIFEST) as store:
            summaries.append(await run(engine(mentor, FakeModel()), problems(3), store, cache=cache))
    first, second = summaries
    assert len(mentor.calls) == 0 and second["usd"] == first["usd"] > 0
    assert first["usd_paid"] == first["usd"] and second["usd_paid"] == 0
