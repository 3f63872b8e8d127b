"""Replaying a table: the walk of the real strategy, costs by hand, and the anchors of every chart."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scalar_replay import level_shares, mean_of, replay, walk
from scripted_classifier import ScriptedClassifier
from synthetic import INTERN, LADDER, MENTOR, rated_pair, table

from tandem.collection.collector import Collector
from tandem.collection.plan import CollectionPlan as Collected
from tandem.collection.rows import Folder
from tandem.config import Settings
from tandem.costs import UNITS, Unit, rates
from tandem.errors import UsageError
from tandem.ladder import Ladder, parse_ladder
from tandem.models.base import Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.spec import InsightMode, ModelSpec
from tandem.statistics.chord import chord
from tandem.strategies import Context, make_strategy
from tandem.sufficiency.policy import Policy, PolicyCard, Upgrade
from tandem.sufficiency.rows import Levels, Sufficiencies
from tandem.training.aims import Aim, choose, parse_aim
from tandem.training.fit import complete, signals_by_problem, with_question
from tandem.training.replay import BatchReplay, Outcome, Pair, fixed, oracle
from tandem.training.search import Point, frontier, ladders
from tandem.training.upgrades import predict_later
from tandem.types import Problem, Solution

pytestmark = pytest.mark.slow

PAIR = Pair(MENTOR, INTERN)
FULL = parse_ladder("none,low=5,medium=12,high=30,answer")
FROM_QUESTION = parse_ladder("question,none,low=5,medium=12,high=30,answer")
NAMES = ("question", "none", "low", "medium", "high")
SIGNALS = ("log_perplexity", "question_numbers")
RATED = rated_pair()  # with rates in every unit


def reply(request: Request) -> str:
    """The intern's answer: longer with less insight, and right from 12 words of it on."""
    words = len(request.messages[-1].content.split())
    return " ".join(["so"] * (60 - words)) + f" \\boxed{{{7 if words > 45 else 8}}}"


def models(words: int, mode: str) -> tuple[FakeModel, FakeModel]:
    text = "".join(f" w{i}" for i in range(words))
    rules = (Rule(text=f"Goal:{text}", purpose="insight"), Rule(text="the mentor says \\boxed{7}"))
    if mode == "prefix":
        rules = (Rule(text=f"the mentor says \\boxed{{7}}{text}"),)
    mentor, intern = FakeModel(Script(rules=rules), name="m", parameters=30e9), FakeModel(name="i")
    mentor.spec = mentor.spec.model_copy(update={"insight_mode": mode})
    intern.answer = reply
    return mentor, intern


@st.composite
def cards(draw: st.DrawFn, signals: tuple[str, ...] = ()) -> PolicyCard:
    """Thresholds, and for some levels upgrades to later ones, which may read `signals`."""
    upgrades: dict[str, dict[str, Upgrade]] = {}
    for position, here in enumerate(NAMES):
        for there in (*NAMES[position + 1 :], "answer"):
            if draw(st.booleans()):
                offset, slope = draw(st.sampled_from([-3, 0, 3])), draw(st.sampled_from([0, 1]))
                weights = {name: draw(st.sampled_from([-1.0, 0.5])) for name in signals if draw(st.booleans())}
                upgrade = Upgrade(offset=offset, slope=slope, cost=0.5, weights=weights)
                upgrades.setdefault(here, {})[there] = upgrade
    thresholds = {name: draw(st.sampled_from([0.2, 0.5, 0.8])) for name in NAMES}
    return PolicyCard(thresholds=thresholds, cost_weight=draw(st.sampled_from([0.0, 0.4])), upgrades=upgrades)


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries({name: st.floats(0, 1) for name in NAMES}),
    cards(),
    st.sampled_from([sub for size in (2, 3, 4, 5, 6) for sub in combinations(FROM_QUESTION, size)]),
    st.integers(0, 40),
    st.sampled_from([1, 4, 16, None]),
    st.sampled_from(["gpra", "prefix"]),
)
def test_the_walk_is_that_of_the_real_strategy(
    p: dict[str, float], card: PolicyCard, ladder: Ladder, words: int, draft: int | None, mode: str
) -> None:
    problem = Problem.from_text("What is 3 plus 4?", id="p", reference="7")

    async def both() -> tuple[Solution, Levels, Pair]:
        mentor, intern = models(words, mode)
        policy = Policy(ScriptedClassifier(p), card)
        ctx = Context(problem, "tandem", mentor, intern, Settings(pace="thrifty"), ladder, policy, draft)
        events = [event async for event in make_strategy("tandem").run(ctx)]
        assert isinstance(events[-1], Solution)
        with tempfile.TemporaryDirectory() as out:
            collector = Collector(mentor, intern, Collected(ladder=FULL), Path(out))
            assert (await collector.collect([problem])).failed == 0
            rows = complete(list(Folder(Path(out), write=False).rows()), FROM_QUESTION)["p"]
        return events[-1], rows, Pair(mentor.spec, intern.spec)

    solution, rows, pair = asyncio.run(both())
    outcome = replayed(rows, ladder, pair, draft, card, p)
    assert outcome.level == solution.level
    assert outcome.correct == (solution.answer == "7")
    assert outcome.mentor_tokens == solution.ledger.mentor_tokens
    # Every call of the intern costs what the table says; the insight is priced as one generation up to its level, and
    # an answer that it begins as one up to its end.
    ledger, bought = solution.ledger, solution.trace[-1].insight_tokens if solution.trace else 0
    paid = [e.tflops for e in ledger if e.purpose != "insight" and (e.role == "intern" or mode == "gpra")]
    if mode == "prefix" and solution.level == "answer":
        paid.append(
            rates(pair.mentor, "tflops", "intern").cost(
                ledger.select("mentor")[0].usage.prompt, 0, ledger.mentor_tokens
            )
        )
    elif bought:
        paid.append(
            rates(pair.mentor, "tflops", "intern").cost(ledger.select("mentor", "insight")[0].usage.prompt, 0, bought)
        )
    assert outcome.cost == pytest.approx(sum(paid))


def replayed(
    problem: Levels, ladder: Ladder, pair: Pair, draft: int | None, card: PolicyCard, p: Mapping[str, float]
) -> Outcome:
    """Replay one problem; the batch replay and its oracle agree on it."""
    return batch_replayed({"p": problem}, {"p": p}, ladder, pair, draft, card, {"p": {name: {} for name in NAMES}})[0]


def batch_replayed(
    problems: Mapping[str, Levels],
    p: Sufficiencies,
    ladder: Ladder,
    pair: Pair,
    draft: int | None,
    card: PolicyCard,
    signals: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[Outcome]:
    """Replay problems together, and check each against the oracle."""
    later = predict_later(card.upgrades, p, signals)
    found = BatchReplay.of(problems, p, ladder, pair, draft, card.upgrades, later).run(card)
    outcomes = [
        Outcome(ladder[level].name, bool(correct), spent, int(tokens))
        for level, correct, spent, tokens in zip(
            *(getattr(found, name).tolist() for name in ("level", "correct", "cost", "mentor_tokens")),
            strict=True,
        )
    ]
    for (i, by_level), outcome in zip(p.items(), outcomes, strict=True):
        policy = Policy(ScriptedClassifier({}), card)
        one = replay(walk(problems[i], ladder, pair, draft), policy, by_level, signals[i])
        assert (outcome.level, outcome.correct, outcome.mentor_tokens) == (one.level, one.correct, one.mentor_tokens)
        assert outcome.cost == pytest.approx(one.cost)
    return outcomes


def rows_of(number: int = 0) -> Levels:
    found = table(number + 1)
    return {row["level"]: row for row in found if row["problem"] == f"made-{number}"}


def with_rows(**changes: dict[str, Any]) -> Levels:
    """One problem with round figures at every level."""
    base: dict[str, dict[str, Any]] = {}
    for level in LADDER:
        base[level.name] = {"level": level.name, "correct": False, "prompt_tokens": 100 + (level.tokens or 0)}
        base[level.name] |= {"completion_tokens": 400 if level.is_answer else 200}
        if not level.is_answer:
            base[level.name] |= {"insight_tokens": level.tokens}
        if level.tokens:
            base[level.name] |= {"insight_finished": False, "mentor_prompt_tokens": 150}
    for name, change in changes.items():
        base[name] |= change
    return base


def cost(spec: ModelSpec, prompt: int, completion: int) -> float:
    found = rates(spec, "tflops", "intern").cost(prompt, 0, completion)
    assert found is not None
    return found


def outcome(problem: Levels, card: PolicyCard, p: Mapping[str, float], draft: int | None = 64) -> Outcome:
    return replayed(problem, LADDER, PAIR, draft, card, p)


MIDDLE = PolicyCard(thresholds=dict.fromkeys(NAMES, 0.5))


def test_costs_by_hand() -> None:
    problem = with_rows(medium={"correct": True})
    found = outcome(problem, MIDDLE, {"none": 0.1, "low": 0.2, "medium": 0.9})
    drafts = cost(INTERN, 100, 64) + cost(INTERN, 200, 64)
    expected = drafts + cost(MENTOR, 150, 500) + cost(INTERN, 600, 200)
    assert (found.level, found.correct, found.mentor_tokens) == ("medium", True, 500)
    assert found.cost == pytest.approx(expected)


def test_a_discarded_draft_is_never_longer_than_its_answer() -> None:
    problem = with_rows(none={"completion_tokens": 30})
    p = {"none": 0.1, "low": 0.9}
    short = cost(INTERN, 100, 30) + cost(MENTOR, 150, 100) + cost(INTERN, 200, 200)
    assert outcome(problem, MIDDLE, p, 64).cost == pytest.approx(short)
    assert outcome(problem, MIDDLE, p, None).cost == pytest.approx(short)
    assert outcome(with_rows(), MIDDLE, p, None).cost > outcome(with_rows(), MIDDLE, p, 64).cost


def test_climbing_to_the_answer_charges_everything_bought_on_the_way() -> None:
    found = outcome(with_rows(), MIDDLE, dict.fromkeys(NAMES, 0.1), 16)
    drafts = sum(cost(INTERN, 100 + tokens, 16) for tokens in (0, 100, 500, 1000))
    assert found.level == "answer" and found.mentor_tokens == 1400
    assert found.cost == pytest.approx(drafts + cost(MENTOR, 150, 1000) + cost(MENTOR, 100, 400))


def test_jumping_to_the_answer_buys_nothing_between() -> None:
    upgrades = {"none": {"answer": Upgrade(offset=9, slope=0, cost=0.1)}}
    found = outcome(with_rows(), PolicyCard(thresholds={"none": 0.5}, upgrades=upgrades), {"none": 0.1}, 16)
    assert (found.level, found.mentor_tokens) == ("answer", 400)
    assert found.cost == pytest.approx(cost(INTERN, 100, 16) + cost(MENTOR, 100, 400))


def test_levels_that_add_nothing_cost_nothing() -> None:
    ended = {"insight_tokens": 70, "insight_finished": True, "prompt_tokens": 170}
    problem = with_rows(low=ended, medium=ended, high=ended)
    found = outcome(problem, MIDDLE, dict.fromkeys(NAMES, 0.1), 16)
    drafts = cost(INTERN, 100, 16) + cost(INTERN, 170, 16)
    assert found.cost == pytest.approx(drafts + cost(MENTOR, 150, 70) + cost(MENTOR, 100, 400))
    without_answer = replayed(problem, LADDER[:-1], PAIR, 16, MIDDLE, dict.fromkeys(NAMES, 0.1))
    assert (without_answer.level, without_answer.mentor_tokens) == ("low", 70)


@pytest.mark.parametrize("level", ["none", "low", "medium", "high", "answer"])
def test_a_ladder_of_one_level_is_the_fixed_strategy(level: str) -> None:
    problem = rows_of(3)
    alone = tuple(e for e in LADDER if e.name == level)
    assert replayed(problem, alone, PAIR, 64, MIDDLE, {level: 0.0}) == pytest.approx(fixed(problem, level, PAIR))


def test_the_oracle_is_the_cheapest_right_level_else_the_cheapest() -> None:
    levels = [level.name for level in LADDER]
    assert oracle(with_rows(low={"correct": True}, answer={"correct": True}), levels, PAIR).level == "low"
    assert oracle(with_rows(), levels, PAIR).level == "none"
    cheap_mentor = with_rows(medium={"correct": True}, answer={"correct": True, "completion_tokens": 20})
    assert oracle(cheap_mentor, levels, PAIR).level == "answer"


def test_the_oracle_is_nowhere_worse_than_a_fixed_level() -> None:
    levels = [level.name for level in LADDER]
    problems = [rows_of(n) for n in range(20)]
    best = mean_of([oracle(problem, levels, PAIR) for problem in problems])
    for level in levels:
        assert best["accuracy"] >= mean_of([fixed(problem, level, PAIR) for problem in problems])["accuracy"]


def test_a_replay_without_sizes_is_refused() -> None:
    with pytest.raises(UsageError, match="closed in TFLOPs is not known; it needs its size"):
        fixed(with_rows(), "none", Pair(MENTOR, ModelSpec(name="closed")))


def test_the_chord_is_a_random_mix_and_flat_beyond_the_dear_end() -> None:
    cheap, expensive = (1.0, 0.4), (3.0, 0.8)
    assert [chord(c, cheap, expensive) for c in (0.5, 1.0, 2.0, 3.0, 9.0)] == pytest.approx([0.4, 0.4, 0.6, 0.8, 0.8])


def test_every_sub_ladder_from_the_first_level_once() -> None:
    found = ladders(LADDER)
    assert len(found) == len(set(found)) == 15
    assert all(sub[0] == LADDER[0] and len(sub) > 1 for sub in found)
    assert all(list(sub) == [level for level in LADDER if level in sub] for sub in found)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({name: st.floats(0, 1) for name in NAMES}), min_size=1, max_size=12),
    cards(SIGNALS),
    st.sampled_from([sub for size in (1, 2, 3, 5) for sub in combinations(with_question(LADDER), size)]),
    st.sampled_from([16, None]),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from(UNITS),
    st.sampled_from(["gpra", "prefix"]),
)
def test_many_problems_at_once_end_as_they_do_one_by_one(
    p: list[dict[str, float]],
    card: PolicyCard,
    ladder: Ladder,
    draft: int | None,
    seed: int,
    cache: bool,
    unit: Unit,
    mode: InsightMode,
) -> None:
    pair = Pair(RATED[0].model_copy(update={"insight_mode": mode}), RATED[1], cache, unit)
    problems = complete(table(len(p), seed=seed), with_question(LADDER))
    by_problem = dict(zip(problems, p, strict=True))
    signals = signals_by_problem(problems, list(problems), with_question(LADDER), str(draft or "all"), SIGNALS)
    batch_replayed(problems, by_problem, ladder, pair, draft, card, signals)


def test_a_prefix_cache_pays_for_what_is_new_and_changes_nothing_else() -> None:
    problem, p = with_rows(medium={"correct": True}), {"none": 0.1, "low": 0.2, "medium": 0.9}
    cached = Pair(MENTOR, INTERN, prefix_cache=True)
    plain = replayed(problem, LADDER, PAIR, 64, MIDDLE, p)
    found = replayed(problem, LADDER, cached, 64, MIDDLE, p)
    # Whole blocks of 16: of 100 tokens 96 are kept, of 200 tokens 192.
    saved = sum(
        cost(INTERN, prompt, written) - (rates(INTERN, "tflops", "intern").cost(prompt, kept, written) or 0)
        for prompt, kept, written in ((200, 96, 64), (600, 192, 200))
    )
    assert plain.cost - found.cost == pytest.approx(saved)
    assert (found.level, found.correct) == (plain.level, plain.correct)
    assert fixed(problem, "high", cached) == fixed(problem, "high", PAIR)  # one prompt a problem shares nothing


def test_published_tflops_by_hand() -> None:
    problem = with_rows()
    pair = replace(PAIR, unit="tflops_published")
    assert fixed(problem, "medium", pair).cost == pytest.approx(2e-3 * (32 * 500 + 1.5 * (500 + 200)))
    assert fixed(problem, "answer", pair).cost == pytest.approx(2e-3 * 32 * 400)
    assert fixed(problem, "none", pair).cost == pytest.approx(2e-3 * 1.5 * 200)
    hinted = {"level": "hint-20", "prompt_tokens": 180, "completion_tokens": 120, "hint_tokens": 80}
    assert pair.answer(hinted) == pytest.approx(2e-3 * 1.5 * (80 + 120))


def test_a_mentor_cut_short_is_priced_as_the_mentor() -> None:
    problem = dict(with_rows()) | {"budget-100": {"level": "budget-100", "correct": True} | {"prompt_tokens": 100}}
    problem["budget-100"] = dict(problem["budget-100"]) | {"completion_tokens": 150}
    found = fixed(problem, "budget-100", PAIR)
    assert (found.mentor_tokens, found.cost) == (150, pytest.approx(cost(MENTOR, 100, 150)))


def point(accuracy: float, tflops: float, top_share: float) -> Point:
    shares = {"none": top_share, "low": 1 - top_share}
    return Point(LADDER[:2], 64, {"none": 0.5, "low": 0.5}, 0.0, accuracy, tflops, mentor_tokens=0.0, shares=shares)


def test_the_cheapest_point_that_reaches_the_goal_else_the_most_accurate() -> None:
    points = [point(0.7, 5, 0.5), point(0.8, 9, 0.5), point(0.75, 4, 0.5), point(0.2, 1, 0.5)]
    assert choose(points, Aim(), 0.7, 10) == (points[2], None)
    assert choose(points, Aim(), 0.8, 10) == (points[1], None)
    assert choose(points, Aim(), 0.95, 10) == (points[1], None)


def test_the_most_accurate_point_within_the_budget_else_the_cheapest() -> None:
    points = [point(0.7, 5, 0.5), point(0.8, 9, 0.5), point(0.75, 4, 0.5), point(0.2, 1, 0.5)]
    assert choose(points, Aim("cost", 0.5), 0.8, 10) == (points[2], None)
    assert choose(points, Aim("cost", 0.9), 0.8, 10) == (points[1], None)
    assert choose(points, Aim("cost", 0.01), 0.8, 10) == (points[3], None)


def test_a_point_that_hardly_adapts_is_passed_over_or_flagged() -> None:
    stuck, adapting = point(0.9, 1, 0.95), point(0.8, 5, 0.9)
    assert stuck.degenerate and not adapting.degenerate
    assert choose([stuck, adapting], Aim(), 0.7, 10) == (adapting, stuck)
    assert choose([stuck], Aim(), 0.7, 10) == (stuck, stuck)


def test_the_frontier_is_what_nothing_beats() -> None:
    points = [point(0.7, 5, 0.5), point(0.8, 9, 0.5), point(0.75, 4, 0.5), point(0.2, 1, 0.5), point(0.2, 2, 0.5)]
    assert frontier(points) == [points[3], points[2], points[1]]


@pytest.mark.parametrize(
    ("text", "aim"), [("accuracy", Aim()), ("cost:0.6", Aim("cost", 0.6)), ("regret:0.02", Aim("regret", 0.02))]
)
def test_aims_are_read_and_written_alike(text: str, aim: Aim) -> None:
    assert parse_aim(text) == aim and str(aim) == text


@pytest.mark.parametrize(
    "text", ["", "cheap", "cost", "cost:", "cost:0", "cost:-1", "cost:nan", "regret:2", "accuracy:1"]
)
def test_other_aims_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"unknown aim .*cost:X .*regret:X"):
        parse_aim(text)


def test_shares_count_where_problems_end() -> None:
    outcomes = [Outcome(name, True, 1.0, 0) for name in ("none", "none", "high", "answer")]
    assert level_shares(outcomes, LADDER) == {"none": 0.5, "low": 0.0, "medium": 0.0, "high": 0.25, "answer": 0.25}
