"""The algorithm on scripted models: where it stops, what is asked, what is charged, and that both paces agree."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_classifier import ScriptedClassifier

from tandem.config import Pace, Settings
from tandem.errors import CapabilityError, EndpointError
from tandem.ladder import parse_ladder
from tandem.models.base import Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.spec import Continuation, Prices, SpeedProfile
from tandem.strategies import Context, make_strategy
from tandem.strategies.insight_source import choose_pace, trim_overlap
from tandem.sufficiency.policy import Policy, PolicyCard, Upgrade
from tandem.types import AnswerDelta, Decision, Event, InsightDelta, Problem, Sampling, Solution

PROBLEM = Problem.from_text("What is 17*23?", id="p1")
WORDS = "Goal: " + " ".join(f"w{i}" for i in range(60))


def insight_script(text: str, **fields: object) -> Script:
    rules = (Rule(text=text, purpose="insight"), Rule(text="the mentor says \\boxed{391}"))
    return Script(rules=rules, **fields)  # type: ignore[arg-type]


async def solve(
    by_level: Mapping[str, float],
    *,
    ladder: str = "none,low=5,medium=12,high=30",
    pace: Pace = "thrifty",
    insight: str = WORDS,
    mentor: FakeModel | None = None,
    intern: FakeModel | None = None,
    card: PolicyCard | None = None,
    draft: int | None = 4,
    strategy: str = "tandem",
) -> tuple[list[Event], Context]:
    mentor = mentor or FakeModel(insight_script(insight))
    intern = intern or FakeModel()
    levels = parse_ladder(ladder)
    policy = Policy(ScriptedClassifier(by_level), card or PolicyCard(thresholds=dict.fromkeys(by_level, 0.5)))
    ctx = Context(PROBLEM, strategy, mentor, intern, Settings(pace=pace), levels, policy, draft)
    return [event async for event in make_strategy(strategy).run(ctx)], ctx


def solution(events: list[Event]) -> Solution:
    assert isinstance(events[-1], Solution)
    return events[-1]


def decisions(events: list[Event]) -> list[tuple[str, str]]:
    return [(e.level, e.action) for e in events if isinstance(e, Decision)]


async def test_stops_at_the_first_sufficient_level_and_charges_by_purpose() -> None:
    events, ctx = await solve({"none": 0.1, "low": 0.2, "medium": 0.9, "high": 0.9})
    assert decisions(events) == [("none", "go_on"), ("low", "go_on"), ("medium", "stop")]
    ledger = solution(events).ledger
    assert ledger.mentor_tokens == 12
    assert ledger.probe_tokens == 8  # two drafts of four tokens were discarded
    assert [e.purpose for e in ledger.select("intern")] == ["probe", "probe", "answer"]
    assert ledger.select("intern", "answer")[0].read_tokens == 12
    assert isinstance(ctx.intern, FakeModel) and len(ctx.intern.aborted) == 2


async def test_the_draft_is_the_head_of_the_stream_that_becomes_the_answer() -> None:
    events, ctx = await solve({"none": 0.9, "low": 0, "medium": 0, "high": 0})
    assert isinstance(ctx.intern, FakeModel) and len(ctx.intern.calls) == 1
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution(events).text
    assert solution(events).ledger.mentor_tokens == 0


async def test_a_discarded_draft_never_becomes_answer_text() -> None:
    events, _ = await solve({"none": 0.1, "low": 0.9, "medium": 0, "high": 0})
    kinds = [type(e).__name__ for e in events]
    assert "AnswerDelta" not in kinds[: kinds.index("Decision") + 2]


async def test_the_last_insight_level_always_completes_without_answer_on_the_ladder() -> None:
    events, _ = await solve({"none": 0.1, "low": 0.1, "medium": 0.1, "high": 0.1})
    assert decisions(events)[-1] == ("high", "stop")
    assert solution(events).answered_by == "intern"


async def test_with_answer_on_the_ladder_the_mentor_answers_the_hopeless() -> None:
    levels = {"none": 0.1, "low": 0.1, "medium": 0.1, "high": 0.1}
    events, ctx = await solve(levels, ladder="none,low=5,medium=12,high=30,answer")
    assert solution(events).answered_by == "mentor" and solution(events).answer == "391"
    assert isinstance(ctx.mentor, FakeModel)
    assert "".join(m.content for m in ctx.mentor.calls[-1].messages).count("Notes") == 0  # its own unchanged prompt


async def test_same_as_levels_are_skipped_once_the_mentor_has_finished() -> None:
    events, _ctx = await solve({"none": 0.1, "low": 0.1, "medium": 0.1, "high": 0.1}, insight="Goal: w1 w2 w3")
    # Three tokens end below `low`, so low is the last level that differs and completes.
    assert decisions(events) == [("none", "go_on"), ("low", "stop")]
    assert solution(events).ledger.mentor_tokens == 3


async def test_an_insight_that_ends_exactly_at_a_boundary_completes_at_the_last_level() -> None:
    for pace in ("eager", "thrifty"):
        events, _ = await solve({"none": 0, "low": 0, "medium": 0, "high": 0}, insight="Goal: 1 2 3 4 5", pace=pace)
        assert solution(events).answered_by == "intern"
        assert decisions(events)[:2] == [("none", "go_on"), ("low", "go_on")]
        assert decisions(events)[-1][1] == "stop"


async def test_eager_charges_its_overshoot_and_aborts_the_mentor() -> None:
    mentor = FakeModel(insight_script(WORDS, token_seconds=0.01))
    intern = FakeModel(Script(first_token_seconds=0.03))
    events, _ = await solve(
        {"none": 0.1, "low": 0.9, "medium": 0, "high": 0}, pace="eager", mentor=mentor, intern=intern
    )
    entry = solution(events).ledger.select("mentor", "insight")[0]
    assert len(mentor.aborted) == 1
    assert 5 < entry.usage.completion < 30
    assert entry.usage.source == "counted" and entry.usage.completion_bound == 30
    assert len(solution(events).insight.split()) == 1 + 5  # the intern saw the level's text and no more


async def test_gives_up_where_no_later_level_is_worth_its_cost() -> None:
    hopeless = Upgrade(offset=-5, slope=0, cost=1.0)
    card = PolicyCard(
        thresholds={"none": 0.9}, cost_weight=0.5, upgrades={"none": {"low": hopeless, "answer": hopeless}}
    )
    events, _ = await solve({"none": 0.1, "low": 0.1}, ladder="none,low=5,answer", card=card)
    assert decisions(events) == [("none", "stop")]
    assert solution(events).ledger.mentor_tokens == 0


async def test_jumps_to_the_answer_where_that_is_worth_most() -> None:
    upgrades = {"none": {"low": Upgrade(offset=-5, slope=0, cost=0.1), "answer": Upgrade(offset=5, slope=0, cost=1.0)}}
    card = PolicyCard(thresholds={"none": 0.9, "low": 0.9}, cost_weight=0.1, upgrades=upgrades)
    events, _ = await solve({"none": 0.1, "low": 0.1}, ladder="none,low=5,answer", card=card)
    assert decisions(events) == [("none", "answer")]
    assert solution(events).answered_by == "mentor"


async def test_an_intern_without_logprobs_is_refused_before_any_call() -> None:
    intern = FakeModel(Script(logprobs=False))
    with pytest.raises(CapabilityError, match="log-probabilities"):
        await solve({"none": 0.1}, intern=intern)
    assert intern.calls == []


async def test_a_failing_mentor_is_charged_for_what_it_wrote() -> None:
    rules = (Rule(text=WORDS, purpose="insight", fault="the line went dead", fault_after=3),)
    for pace in ("eager", "thrifty"):
        mentor = FakeModel(Script(rules=rules))
        policy = Policy(ScriptedClassifier({"none": 0, "low": 0, "medium": 0, "high": 0}), PolicyCard(thresholds={}))
        levels = parse_ladder("none,low=5,medium=12")
        ctx = Context(PROBLEM, "tandem", mentor, FakeModel(), Settings(pace=pace), levels, policy, 4)
        with pytest.raises(EndpointError, match="the line went dead"):
            async for _ in make_strategy("tandem").run(ctx):
                pass
        assert ctx.ledger.tokens("mentor", "insight") == 3
        assert ctx.ledger.select("mentor")[0].usage.source == "counted"


async def test_closing_the_stream_aborts_both_models() -> None:
    mentor = FakeModel(insight_script(WORDS, token_seconds=0.005))
    intern = FakeModel(Script(token_seconds=0.005))
    policy = Policy(ScriptedClassifier({"none": 0.9, "low": 0.9}), PolicyCard(thresholds={"none": 0.5}))
    ctx = Context(PROBLEM, "tandem", mentor, intern, Settings(pace="eager"), parse_ladder("none,low=50"), policy, 2)
    events = make_strategy("tandem").run(ctx)
    async for event in events:
        if isinstance(event, AnswerDelta):
            break
    await events.aclose()
    assert len(mentor.aborted) == len(intern.aborted) == 1
    assert {e.role for e in ctx.ledger} == {"mentor", "intern"}  # nothing that was begun is missing from the ledger


LEVELS = ("none", "low", "medium", "high")


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries({name: st.floats(0, 1) for name in LEVELS}),
    st.integers(0, 40),
    st.sampled_from([1, 4, None]),
    st.booleans(),
)
def test_both_paces_give_the_same_decisions_answers_and_insight(
    by_level: dict[str, float], words: int, draft: int | None, with_answer: bool
) -> None:
    async def both() -> list[tuple[object, ...]]:
        results = []
        for pace in ("eager", "thrifty"):
            intern = FakeModel()
            intern.answer = lambda request: f"seen {len(request.messages[-1].content)} so \\boxed{{7}} " * 3
            ladder = "none,low=5,medium=12,high=30" + (",answer" if with_answer else "")
            insight = "Goal:" + "".join(f" w{i}" if i % 9 else "\nPlanning: a" for i in range(1, words + 1))
            events, _ = await solve(by_level, ladder=ladder, pace=pace, insight=insight, intern=intern, draft=draft)
            final = solution(events)
            deltas = "".join(e.text for e in events if isinstance(e, InsightDelta))
            seen = [(d.level, d.action, d.sufficiency, d.insight_tokens) for d in final.trace]
            results.append((seen, final.text, final.level, final.insight, final.answered_by, deltas))
        return results

    eager, thrifty = asyncio.run(both())
    assert eager == thrifty


async def test_thrifty_never_regenerates_and_asks_only_for_what_is_missing() -> None:
    events, ctx = await solve({"none": 0, "low": 0, "medium": 0, "high": 0})
    assert isinstance(ctx.mentor, FakeModel)
    assert [c.max_tokens for c in ctx.mentor.calls] == [5, 7, 18]
    assert [len((c.prefix or "").split()) for c in ctx.mentor.calls if isinstance(c.prefix, str)] == [1, 6, 13]
    assert solution(events).ledger.mentor_tokens == 30


async def test_a_mentor_without_native_continuation_is_asked_for_the_next_part() -> None:
    mentor = FakeModel(Script(continuation=Continuation.SECTIONS))
    replies = iter(["Goal: a b c d", " c d Planning: e f g h i j k"])
    mentor.answer = lambda request: next(replies)
    events, _ = await solve({"none": 0, "low": 0, "medium": 0.9}, ladder="none,low=5,medium=12", mentor=mentor)
    assert mentor.calls[1].messages[-2].content == "Goal: a b c d"
    assert (
        solution(events).insight == "Goal: a b c d Planning: e f g h"
    )  # the repeated "c d" is trimmed, and was paid for


async def test_a_mentor_that_cannot_continue_needs_the_eager_pace() -> None:
    mentor = FakeModel(insight_script(WORDS, continuation=Continuation.NONE))
    with pytest.raises(CapabilityError, match="--pace eager"):
        await solve({"none": 0, "low": 0, "medium": 0, "high": 0}, mentor=mentor)


def test_the_cheaper_pace_by_price() -> None:
    ladder = parse_ladder("none,low,medium,high")
    dear_output = FakeModel().spec.model_copy(update={"prices": Prices(input=1, output=10)})
    dear_input = FakeModel().spec.model_copy(update={"prices": Prices(input=50, output=1)})
    assert choose_pace(ladder, dear_output, 100, {}) == "thrifty"
    assert choose_pace(ladder, dear_input, 2000, {}) == "eager"
    quick_reader = SpeedProfile(model="fake", uncached=1e-4, cached=1e-6, written=5e-3)
    assert choose_pace(ladder, FakeModel().spec, 5000, {}) == "eager"
    assert choose_pace(ladder, FakeModel().spec.model_copy(update={"profile": quick_reader}), 5000, {}) == "thrifty"
    unknown = dear_output.model_copy(update={"continuation": None})
    assert choose_pace(ladder, unknown, 100, {}) == "eager"  # who was never asked cannot be trusted to continue


@given(st.text(min_size=0, max_size=50), st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_overlap_is_trimmed_once(head: str, shared: str, tail: str) -> None:
    trimmed = trim_overlap(head + shared, shared + tail)
    assert (shared + tail).endswith(trimmed)
    assert len(trimmed) <= len(tail)


@pytest.mark.parametrize(
    ("strategy", "roles", "level", "mentor_tokens"),
    [("mentor-only", ["mentor"], "answer", 4), ("intern-only", ["intern"], "none", 0)],
)
async def test_anchors_call_one_model(strategy: str, roles: list[str], level: str, mentor_tokens: int) -> None:
    events, ctx = await solve({}, strategy=strategy)
    assert [e.role for e in ctx.ledger] == roles
    assert solution(events).level == level
    assert solution(events).ledger.mentor_tokens == mentor_tokens


async def test_fixed_buys_its_level_in_one_call_and_drafts_nothing() -> None:
    events, ctx = await solve({}, strategy="fixed:low=7")
    assert next((e.role, e.purpose, e.usage.completion) for e in ctx.ledger) == ("mentor", "insight", 7)
    assert solution(events).ledger.probe_tokens == 0 and solution(events).level == "low"


async def test_a_stream_without_an_end_is_a_failure_not_an_answer() -> None:
    class Cut(FakeModel):
        async def stream(self, request: Request):  # type: ignore[no-untyped-def]
            async for delta in super().stream(request):
                if delta.finish_reason is None:
                    yield delta

    with pytest.raises(Exception, match="without a finish reason"):
        await solve({}, strategy="intern-only", intern=Cut())


async def test_where_the_question_alone_suffices_no_draft_is_read_and_no_mentor_asked() -> None:
    events, ctx = await solve({"question": 0.9, "none": 0.1, "low": 0.1}, ladder="question,none,low=5", pace="eager")
    found = solution(events)
    assert (found.level, found.answered_by, found.ledger.mentor_tokens) == ("question", "intern", 0)
    assert isinstance(ctx.intern, FakeModel) and len(ctx.intern.calls) == 1 and not ctx.intern.aborted
    assert isinstance(ctx.mentor, FakeModel) and not ctx.mentor.calls
    assert decisions(events) == [("question", "stop")] and events.index(found.trace[0]) == 0


async def test_the_question_alone_may_hand_over_or_go_on_to_a_draft() -> None:
    events, ctx = await solve({"question": 0.1}, ladder="question,answer")
    assert (solution(events).level, solution(events).answered_by) == ("answer", "mentor")
    assert isinstance(ctx.intern, FakeModel) and not ctx.intern.calls
    events, _ = await solve({"question": 0.1, "none": 0.9}, ladder="question,none,answer")
    assert decisions(events) == [("question", "go_on"), ("none", "stop")] and solution(events).level == "none"
    signals = solution(events).trace[0].signals, solution(events).trace[1].signals
    assert [own["alone"] for own in signals] == [1.0, 0.0] and signals[0]["length"] == 0.0 < signals[1]["length"]
    assert signals[0]["alone_question_numbers"] == signals[1]["question_numbers"] > 0


ANSWERED = "so " * 20 + "it is \\boxed{391}"


def beginning(text: str = ANSWERED, **fields: object) -> FakeModel:
    """A mentor whose insight is the beginning of its own answer."""
    mentor = FakeModel(Script(rules=(Rule(text=text),), **fields))  # type: ignore[arg-type]
    mentor.spec = mentor.spec.model_copy(update={"insight_mode": "prefix"})
    return mentor


@pytest.mark.parametrize("pace", ["eager", "thrifty"])
async def test_a_mentor_that_began_its_answer_ends_that_one_when_the_problem_is_handed_over(pace: Pace) -> None:
    mentor = beginning()
    events, _ = await solve({"none": 0.1, "low": 0.1}, ladder="none,low=5,answer", pace=pace, mentor=mentor)
    found = solution(events)
    assert (found.text, found.answer, found.answered_by, found.level) == (ANSWERED, "391", "mentor", "answer")
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == ANSWERED
    assert found.ledger.mentor_tokens == mentor.count(ANSWERED)  # as if it had answered at once
    assert len(mentor.calls) == (1 if pace == "eager" else 2)
    assert decisions(events) == [("none", "go_on"), ("low", "answer")]


@pytest.mark.parametrize("pace", ["eager", "thrifty"])
async def test_an_answer_that_is_cut_at_its_cap_is_truncated_and_booked(pace: Pace) -> None:
    mentor, intern = beginning(), FakeModel()
    policy = Policy(ScriptedClassifier({"none": 0.1, "low": 0.1}), PolicyCard(thresholds={"none": 0.5, "low": 0.5}))
    wishes = Settings(pace=pace, mentor_max_tokens=8)
    ctx = Context(PROBLEM, "tandem", mentor, intern, wishes, parse_ladder("none,low=5,answer"), policy, 4)
    events = [event async for event in make_strategy("tandem").run(ctx)]
    found = solution(events)
    assert found.truncated and found.text == "so so so so so so so so"
    assert found.ledger.mentor_tokens == 8 and len(found.ledger.select("mentor")) == len(mentor.calls)


async def test_what_ends_an_answer_ends_one_that_began_as_an_insight() -> None:
    mentor = beginning()
    problem = PROBLEM.model_copy(update={"sampling": Sampling(stop=("it is",))})
    policy = Policy(ScriptedClassifier({"none": 0.1, "low": 0.1}), PolicyCard(thresholds={"none": 0.5, "low": 0.5}))
    ctx = Context(problem, "tandem", mentor, FakeModel(), Settings(), parse_ladder("none,low=5,answer"), policy, 4)
    async for _ in make_strategy("tandem").run(ctx):
        pass
    assert {call.sampling.stop for call in mentor.calls} == {("it is",)}


@pytest.mark.parametrize("pace", ["eager", "thrifty"])
async def test_an_answer_that_is_shorter_than_its_level_is_taken_as_it_is(pace: Pace) -> None:
    intern = FakeModel()
    events, _ = await solve(
        {"none": 0.1, "low": 0.1}, ladder="none,low=50,answer", pace=pace, mentor=beginning(), intern=intern
    )
    assert (solution(events).text, solution(events).answered_by) == (ANSWERED, "mentor")
    assert decisions(events) == [("none", "go_on")] and len(intern.calls) == 1  # nothing is left to draft


async def test_a_stop_under_the_beginning_of_an_answer_aborts_the_mentor() -> None:
    mentor = beginning(token_seconds=0.01)
    events, _ = await solve({"none": 0.1, "low": 0.9}, ladder="none,low=5,answer", pace="eager", mentor=mentor)
    found = solution(events)
    assert found.answered_by == "intern" and found.text.startswith("so so so so so")
    assert found.ledger.mentor_tokens < mentor.count(ANSWERED) and len(mentor.aborted) == 1


async def test_without_a_beginning_the_mentor_gives_its_own_answer() -> None:
    mentor = beginning()
    events, _ = await solve({"none": 0.1}, ladder="none,answer", mentor=mentor)
    assert solution(events).text == ANSWERED and [call.purpose for call in mentor.calls] == ["answer"]


async def test_the_beginning_of_an_answer_is_not_gone_on_with_section_by_section() -> None:
    mentor = beginning()
    mentor.spec = mentor.spec.model_copy(update={"continuation": Continuation.SECTIONS})
    assert choose_pace(parse_ladder("none,low=5,answer"), mentor.spec, 50, {}) == "eager"
    with pytest.raises(CapabilityError, match="--pace eager"):
        await solve({"none": 0.1, "low": 0.1}, ladder="none,low=5,answer", mentor=mentor)
