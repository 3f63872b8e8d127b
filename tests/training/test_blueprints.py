"""The search for a blueprint on fake models: what is found, on which problems, at how many calls, how it goes on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tandem.config import Settings
from tandem.engine import Tandem
from tandem.errors import EndpointError, LimitReached, TandemError, UsageError
from tandem.insight import answer_messages
from tandem.models.base import Request
from tandem.models.cache import ResponseCache
from tandem.models.fake import FakeModel
from tandem.spec import Prices
from tandem.sufficiency.blueprint_card import NONE, BlueprintCard, Candidate, Score
from tandem.training.blueprints.bench import Bench
from tandem.training.blueprints.build import MIN_HELD_OUT, BlueprintPlan, build, split
from tandem.training.blueprints.candidates import STYLES, TEMPLATES, candidates, tidy
from tandem.training.blueprints.search import TrialAnswer, ranked, search
from tandem.types import CodeTests, Problem

PLAN = BlueprintPlan(examples=2, mistakes=2, first=8, rounds=3)
GOLD = "Write the number that is named in the question into the box"  # what the intern needs to be told
ASKED = re.compile(r"Of which number (\d+) do we speak")


def problems(n: int) -> list[Problem]:
    return [
        Problem.from_text(f"Of which number {1000 + i} do we speak here today?", task="math", id=f"toy-{i}").model_copy(
            update={"reference": str(1000 + i)}
        )
        for i in range(n)
    ]


def prompt(request: Request) -> str:
    return "\n".join(m.content for m in request.messages)


def number(request: Request) -> str:
    """Return the number that the last question of a prompt speaks of."""
    return str(ASKED.findall(prompt(request))[-1])


def mentor_that(write: Mapping[str, str] | None = None, refined: str = "", *, solves: bool = True) -> FakeModel:
    """Return a mentor that solves problems and writes a guide by style; each differs from the others."""
    model = FakeModel(name="big", parameters=8e9)

    def answer(request: Request) -> str:
        text = prompt(request)
        if request.purpose == "answer":
            return f"so \\boxed{{{number(request) if solves else 0}}}"
        if "wrong answer" in text:
            return refined or "Refined : read it once more , with care , and then think about it again ."
        style = next(name for name, form in STYLES.items() if form in text)
        return (write or {}).get(style, f"In the {style} way : read the question , solve it , look at it again .")

    model.answer = answer
    return model


def intern_that(right: Callable[[str, int], bool]) -> FakeModel:
    """Return an intern that is right where `right(prompt, number of the problem)` says so."""
    model = FakeModel(name="small", parameters=1e9)
    model.answer = lambda request: (
        f"so \\boxed{{{number(request) if right(prompt(request), int(number(request)) - 1000) else 7}}}"
    )
    return model


def guided(text: str) -> bool:
    return "How to solve problems of this kind" in text


def bench(mentor: FakeModel, intern: FakeModel, **options: Any) -> Bench:
    return Bench(mentor, intern, Settings(mentor_max_tokens=50, intern_max_tokens=50), **options)


async def made(
    mentor: FakeModel, intern: FakeModel, *, n: int = 120, plan: BlueprintPlan = PLAN, **options: Any
) -> BlueprintCard:
    return await build(bench(mentor, intern, **options), problems(n), plan, dataset="toy")


def rounds(card: BlueprintCard) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for score in card.scores:
        found.setdefault(score.part, {})[score.candidate] = f"{score.right}/{score.n}"
    return found


async def test_a_planted_blueprint_is_found() -> None:
    mentor = mentor_that({"decisions": f"If you are asked , then : {GOLD} ."})
    card = await made(mentor, intern_that(lambda text, i: GOLD in text))
    assert card.choice.blueprint == "decisions" and card.text is not None and GOLD in card.text.text
    assert (card.mentor, card.intern, card.task, card.dataset, card.synthetic) == ("big", "small", "math", "toy", True)
    held = card.held_out
    assert (held.candidate, held.n, held.won, held.lost, held.value) == (card.chosen, 64, 64, 0, 1.0)
    assert held.ci95 == (1.0, 1.0) and held.p < 1e-9
    assert rounds(card)["held-out"] == {NONE: "0/64", card.chosen: "64/64"} and not card.notes


async def test_a_blueprint_that_only_the_refinement_finds_joins_and_wins() -> None:
    mentor = mentor_that(refined=f"Better : {GOLD} .")
    card = await made(mentor, intern_that(lambda text, i: GOLD in text or (guided(text) and i % 4 == 0)))
    first, second, last = (rounds(card)[f"round-{k}"] for k in (1, 2, 3))
    assert card.choice.blueprint == "refined" and card.chosen not in first
    assert second[card.chosen] == "16/16" and last[card.chosen] == "32/32"
    parent = next(c for c in card.candidates if c.name == max(first, key=lambda name: (first[name], name != NONE)))
    assert parent.name in second and (card.choice.place, card.choice.follow) in TEMPLATES


async def test_useless_blueprints_lose_to_none_and_the_file_says_so() -> None:
    card = await made(mentor_that(), intern_that(lambda text, i: not guided(text) or i % 2 == 0))
    assert card.chosen == NONE and card.text is None
    assert card.held_out.value < 0 and card.held_out.candidate != NONE
    assert any("the search chose no blueprint" in note for note in card.notes)
    assert any("on the held-out problems the plain prompt was no worse" in note for note in card.notes)


async def test_at_equal_scores_the_plain_prompt_is_chosen() -> None:
    assert (await made(mentor_that(), intern_that(lambda text, i: i % 3 > 0))).chosen == NONE


def test_the_plain_prompt_comes_before_its_equals_even_if_its_answers_are_longer_then_fewer_tokens_count() -> None:
    tokens = {NONE: 900, "long": 800, "short": 700, "best": 999}
    scores = {
        name: Score(
            candidate=name, part="x", n=8, right=5 if name == "best" else 4, prompt_tokens=n, completion_tokens=0
        )
        for name, n in tokens.items()
    }
    order = ranked([Candidate(name=name) for name in ("long", "short", NONE, "best")], scores)
    assert [candidate.name for candidate in order] == ["best", NONE, "short", "long"]


async def test_what_only_the_held_out_problems_show_changes_no_choice() -> None:
    kept = {int(p.id[4:]) for p in split(problems(120), PLAN).held_out}
    gold = {"decisions": f"If you are asked , then : {GOLD} ."}
    card = await made(mentor_that(gold), intern_that(lambda text, i: (i in kept) != (GOLD in text)))
    assert card.choice.blueprint == "decisions" and card.held_out.value == -1.0
    assert any(f"no worse than '{card.chosen}': 64 and 0 of 64 right" in note for note in card.notes)


async def test_each_round_has_twice_the_problems_and_half_the_candidates_and_asks_for_nothing_twice() -> None:
    mentor, intern = mentor_that(), intern_that(lambda text, i: guided(text) and i % 2 == 0)
    card = await made(mentor, intern)
    parts = rounds(card)
    assert {part: len(scores) for part, scores in parts.items()} == {
        "round-1": 10,
        "round-2": 6,  # five, and the refined one
        "round-3": 3,
        "held-out": 2,
    }
    assert [{s.n for s in card.scores if s.part == part} for part in parts] == [{8}, {16}, {32}, {64}]
    assert all(NONE in scores for scores in parts.values())  # the worst of all, and never dropped
    asked = Counter((request.messages, request.max_tokens) for request in intern.calls)
    assert max(asked.values()) == 1
    # 10x8; five on the ten that come new (two were shown), and the refined one on 16; three on 16 more; two held out
    assert len(intern.calls) == 10 * 8 + 5 * 10 + 16 + 3 * 16 + 2 * 64 <= PLAN.answers == 10 * 8 + 5 * 10 + 16 + 176
    assert len(mentor.calls) == 2 + len(STYLES) + 1


async def test_problems_stay_in_their_parts() -> None:
    mentor, intern = mentor_that(), intern_that(lambda text, i: guided(text) and i % 2 == 0)
    card = await made(mentor, intern)
    parts = split(problems(120), PLAN)
    questions = {name: {p.question for p in getattr(parts, name)} for name in ("examples", "pool", "held_out")}
    assert [len(q) for q in questions.values()] == [2, 54, 64] and len(set.union(*questions.values())) == 120
    for request in mentor.calls:
        shown = {q for part in ("pool", "held_out") for q in questions[part] if q in prompt(request)}
        assert not shown or ("wrong answer" in prompt(request) and len(shown) == 2 and shown <= questions["pool"])
    held = [index for index, r in enumerate(intern.calls) if any(q in prompt(r) for q in questions["held_out"])]
    assert held == list(range(len(intern.calls) - 128, len(intern.calls)))  # the last ones, of two candidates
    assert not any(q in prompt(r) for r in intern.calls for q in questions["examples"])
    assert not any(q in card.model_dump_json() for part in questions.values() for q in part)
    assert all(card.saw(p.id) for p in parts.examples) and not any(card.saw(p.id) for p in parts.held_out)


async def test_nobody_is_ranked_by_problems_that_the_mentor_was_shown() -> None:
    mentor, intern = mentor_that(), intern_that(lambda text, i: guided(text) and i % 2 == 0)
    await made(mentor, intern)
    (refining,) = [r for r in mentor.calls if "wrong answer" in prompt(r)]
    shown = set(ASKED.findall(prompt(refining)))
    under_refined = {number(r) for r in intern.calls if "Refined" in prompt(r)}
    assert len(shown) == 2 and under_refined and not shown & under_refined
    assert all("\\boxed{7}" in part for part in prompt(refining).split("wrong answer:")[1:])  # what it really said
    assert all(f"The right answer: {n}" in prompt(refining) for n in shown)


async def test_examples_are_shown_with_the_mentors_own_right_solution_else_with_the_reference() -> None:
    for solves, expected in ((True, "Solution: so \\boxed{"), (False, "Solution: 1")):
        mentor = mentor_that(solves=solves)
        await made(mentor, intern_that(lambda text, i: True))
        styles = [prompt(r) for r in mentor.calls if r.purpose == "insight"]
        assert len(styles) == len(STYLES) and all(text.count(expected) == 2 for text in styles)
        head = styles[0].partition("Form:")[0]
        assert all(text.startswith(head) for text in styles)  # one beginning, read once by a cache


async def test_a_faultless_best_blueprint_is_not_refined() -> None:
    mentor = mentor_that()
    card = await made(mentor, intern_that(lambda text, i: guided(text)))
    assert not any("wrong answer" in prompt(r) for r in mentor.calls)
    assert [len(scores) for scores in rounds(card).values()] == [10, 5, 3, 2]


async def test_the_plain_candidate_is_asked_as_intern_only_asks() -> None:
    intern = intern_that(lambda text, i: True)
    await made(mentor_that(), intern)
    one = split(problems(120), PLAN).held_out[0]
    (plain,) = [r for r in intern.calls if r.messages == answer_messages(one)]
    fresh = intern_that(lambda text, i: True)
    with Tandem(mentor_that(), fresh, strategy="intern-only", intern_max_tokens=50) as tandem:
        tandem.solve(one)
    assert fresh.calls == [plain]


async def test_a_build_that_fails_goes_on_without_asking_twice(tmp_path: Path) -> None:
    cache, calls = ResponseCache(tmp_path), Counter[tuple[str, Request]]()

    def counted(mentor: FakeModel, intern: FakeModel) -> None:
        calls.update(("mentor", r) for r in mentor.calls)
        calls.update(("intern", r) for r in intern.calls)

    right = intern_that(lambda text, i: guided(text) and i % 2 == 0)
    whole = await made(mentor_that(), right)
    for limit in (3, 40, 150):
        mentor, intern = mentor_that(), intern_that(lambda text, i: guided(text) and i % 2 == 0)
        before, refused = intern.answer, list[Request]()
        assert before is not None

        def failing(
            request: Request,
            intern: FakeModel = intern,
            limit: int = limit,
            before: Any = before,
            refused: list[Request] = refused,
        ) -> str:
            if len(intern.calls) > limit:
                refused.append(intern.calls.pop())
                raise EndpointError("the server is gone")
            return str(before(request))

        intern.answer = failing
        with pytest.raises(EndpointError, match="the server is gone"):
            await made(mentor, intern, recorder=cache)
        assert len(intern.calls) == limit and 1 <= len(refused) <= 16  # those that waited were not begun
        counted(mentor, intern)
    mentor, intern = mentor_that(), intern_that(lambda text, i: guided(text) and i % 2 == 0)
    card = await made(mentor, intern, recorder=cache)
    counted(mentor, intern)
    assert set(calls.values()) == {1} and len(calls) == len(right.calls) + 2 + len(STYLES) + 1
    same = {"created"}
    assert card.model_dump(exclude=same) == whole.model_dump(exclude=same)  # and what is not paid again is charged


async def test_when_the_time_is_up_nothing_is_begun(tmp_path: Path) -> None:
    mentor, intern = mentor_that(), intern_that(lambda text, i: True)
    with pytest.raises(LimitReached, match=r"^--max-minutes -0\.0166667 are over$"):
        await made(mentor, intern, max_seconds=-1.0)
    assert not mentor.calls and not intern.calls


async def test_the_price_is_that_of_all_calls_and_says_when_it_is_repaid() -> None:
    mentor, intern = mentor_that(), intern_that(lambda text, i: GOLD in text)
    mentor.spec = mentor.spec.model_copy(update={"prices": Prices(input=1.0, output=100.0)})
    intern.spec = intern.spec.model_copy(update={"prices": Prices(input=0.0, output=1.0)})
    desk = bench(mentor, intern)
    offline = (await build(desk, problems(120), PLAN, dataset="toy")).offline
    asked = len(mentor.calls) + len(intern.calls)
    assert offline.calls == asked == len(desk.ledger.entries)
    read = sum(mentor.count(prompt(r)) for r in mentor.calls)
    usd = (read * 1.0 + offline.mentor_tokens * 100.0 + offline.intern_tokens) / 1e6
    assert offline.spent.usd == pytest.approx(usd) and offline.intern_tokens == 2 * len(intern.calls)
    question = mentor.count(answer_messages(problems(1)[0])[0].content)
    assert offline.mentor_problem.usd == pytest.approx((question + 2 * 100.0) / 1e6)
    assert offline.intern_problem.usd == pytest.approx(2 / 1e6)
    saved = offline.mentor_problem.usd - offline.intern_problem.usd  # type: ignore[operator]
    assert offline.break_even["usd"] == -(-usd // saved)
    assert offline.spent.tflops == pytest.approx(desk.ledger.tflops) and offline.break_even["tflops"]


async def test_lines_that_quote_an_example_are_taken_out() -> None:
    quote = (
        "Think of this one :\nOf which number {} do we speak here today ?\nand then write down what you have found ."
    )
    mentor = mentor_that()
    writes = mentor.answer
    assert writes is not None
    mentor.answer = lambda request: (
        quote.format(ASKED.findall(prompt(request))[0])
        if "bulleted" in prompt(request) and request.purpose == "insight"
        else writes(request)
    )
    card = await made(mentor, intern_that(lambda text, i: True))
    assert card.blueprints["bullets"].text == "Think of this one :\nand then write down what you have found ."


def test_a_quotation_over_two_lines_and_a_guide_that_was_cut() -> None:
    (one,) = problems(1)
    kept = "First read the whole of the question .\nThen write one equation for each step ."
    assert tidy(f"{kept}\nOf which number 1000 do\nwe speak here today?", [one], cut=False) == kept
    assert tidy(f"{kept}\nAnd last of", [one], cut=True) == kept
    assert tidy(f"<think>hm</think>{kept}", [one], cut=False) == kept
    assert tidy("Too short .", [one], cut=False) == ""


async def test_styles_that_give_nothing_or_the_same_are_left_out() -> None:
    same = "Read the question and then solve it step by step ."
    mentor = mentor_that({"bullets": same, "workflow": same, "pattern": "No ."})
    card = await made(mentor, intern_that(lambda text, i: True))
    assert "workflow" not in card.blueprints and "pattern" not in card.blueprints
    assert len(rounds(card)["round-1"]) == 10
    assert {note.split(":")[0] for note in card.notes} >= {"workflow", "pattern"}
    with pytest.raises(
        TandemError, match=r"wrote 1 blueprints of use, too few for 8 candidates: workflow: the same as"
    ):
        await made(mentor_that(dict.fromkeys(STYLES, same)), intern_that(lambda text, i: True))


def test_candidates_take_each_style_before_one_comes_again() -> None:
    found = candidates(list(STYLES), 1 + 2 * len(STYLES))
    assert found[0] == Candidate(name=NONE) and len({c.name for c in found}) == len(found)
    assert [c.blueprint for c in found[1:]] == [*STYLES, *STYLES]
    assert {(c.place, c.follow) for c in found[1:]} == set(TEMPLATES)
    assert len(candidates(list(STYLES), 1000)) == 1 + len(STYLES) * len(TEMPLATES)


def test_what_problems_and_plans_are_refused() -> None:
    with pytest.raises(UsageError, match=r"needs 100 different problems: 2 as examples, .*64 held out; there are 99$"):
        split(problems(99), PLAN)
    assert split(problems(100), PLAN)
    with pytest.raises(UsageError, match=r"there are 99$"):  # twice the same question is one problem
        split([*problems(99), problems(1)[0].model_copy(update={"id": "again"})], PLAN)
    bare = problems(120)
    bare[7] = bare[7].model_copy(update={"reference": None})
    with pytest.raises(UsageError, match=r"^toy-7 has neither a reference answer nor tests"):
        split(bare, PLAN)
    bare[7] = bare[7].model_copy(update={"task": "code", "tests": CodeTests(code="assert f(1) == 1")})
    with pytest.raises(UsageError, match=r"for one kind of problem, these are code, math$"):
        split(bare, PLAN)
    with pytest.raises(UsageError, match=f"at least {MIN_HELD_OUT} problems must be held out, not 63"):
        split(problems(120), BlueprintPlan(held_out=63))
    with pytest.raises(UsageError, match="takes 8 to 43 candidates, not 7"):
        split(problems(120), BlueprintPlan(candidates=7))


async def test_two_rivals_are_both_in_the_last_round_and_more_rounds_than_halves_do_no_harm() -> None:
    asked: list[tuple[int, int]] = []

    async def judge(live: Sequence[Candidate], some: Sequence[Problem]) -> Mapping[tuple[str, str], TrialAnswer]:
        asked.append((len(live), len(some)))
        return {(c.name, p.id): TrialAnswer(c.name != NONE, "", 1, 1) for c in live for p in some}

    async def refine(best: Candidate, wrong: Sequence[Any]) -> Candidate | None:
        raise AssertionError("nothing went wrong")

    rivals = [Candidate(name=NONE), Candidate(name="a", blueprint="a")]
    found = await search(rivals, problems(40), [4, 8, 16, 32], judge, refine, mistakes=4)
    assert asked == [(2, 4), (2, 8), (2, 16), (2, 32)] and found.chosen.name == "a"
