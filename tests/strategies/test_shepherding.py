"""Shepherding on fake models: which hint is asked for, what the intern goes on from, and what it is charged."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tandem.engine import Tandem
from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.insight import answer_messages
from tandem.models.base import Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.spec import Continuation
from tandem.strategies import make_strategy
from tandem.strategies.shepherding import Shepherding
from tandem.sufficiency.predictor import Head, Predictor
from tandem.types import AnswerDelta, CodeTests, Decision, InsightDelta, Problem, Sampling, Solution

QUESTION = "What is 17*23?"
PROBLEM = Problem.from_text(QUESTION, task="math", reference="391")
MENTOR = "one two three four five six seven eight nine so \\boxed{391}"  # eleven tokens
INTERN = "I guess \\boxed{40}"
ALWAYS, NEVER = 50.0, -50.0  # log-odds


def constant(kind: str, intercept: float, feature: str = "log_question_tokens", weight: float = 0.0) -> Head:
    return Head.model_validate(
        {"kind": kind, "features": (feature,), "mean": (0.0,), "scale": (1.0,), "weights": (weight,)}
        | {"intercept": intercept}
    )


def predictor(
    folder: Path, *, proactive: float = NEVER, reactive: float = NEVER, tokens: int = 4, **heads: Head
) -> str:
    """Write a predictor that always says the same, or what the heads given say, and return its folder."""
    found = {
        f"{way}-{stage}": head
        for way, needs in (("proactive", proactive), ("reactive", reactive))
        for stage, head in (
            ("needs", constant("probability", needs)),
            ("size", constant("value", math.log1p(tokens))),
            ("right", constant("probability", math.log(0.3 / 0.7))),
        )
    }
    made = Predictor(
        strategy="shepherding",
        mentor="big",
        intern="small",
        heads=found | {name.replace("_", "-"): head for name, head in heads.items()},
        settings={"threshold": 0.5, "threshold-reactive": 0.6},
        signal_version="2",
    )
    return str(made.save(folder).parent.parent)


def pair(
    *, mentor: str = MENTOR, intern: Callable[[Request], str] | None = None, script: Script | None = None
) -> tuple[FakeModel, FakeModel]:
    """Return a mentor that always writes `mentor`, and an intern that is right only where it goes on from a hint."""
    big, small = FakeModel(name="big"), FakeModel(script, name="small", parameters=1e8)
    big.answer = lambda request: mentor
    small.answer = intern or (lambda request: request.prefix + " so \\boxed{391}" if request.prefix else INTERN)  # type: ignore[operator]
    return big, small


def solve(
    strategy: str, big: FakeModel, small: FakeModel, problem: Problem = PROBLEM, **options: Any
) -> tuple[Solution, list[Any]]:
    with Tandem(big, small, strategy=strategy, **options) as tandem:
        events = list(tandem.stream(problem))
    assert isinstance(events[-1], Solution)
    return events[-1], events


def booked(solution: Solution) -> list[tuple[str, str, int, int]]:
    return [(e.role, e.purpose, e.usage.completion, e.read_tokens) for e in solution.ledger]


def test_no_hint_is_the_intern_alone_and_the_mentor_is_never_asked(tmp_path: Path) -> None:
    big, small = pair()
    solution, _ = solve(f"shepherding:{predictor(tmp_path)}", big, small)
    assert (solution.text, solution.level, solution.answered_by) == (INTERN, "none", "intern")
    assert not big.calls and len(small.calls) == 1
    assert small.calls[0].messages == answer_messages(PROBLEM) and small.calls[0].prefix is None
    assert booked(solution) == [("intern", "answer", 3, 0)]
    (decision,) = solution.trace
    assert decision.action == "stop" and decision.sufficiency == pytest.approx(0.3) and decision.calibrated


def test_a_hint_is_the_beginning_of_the_mentors_answer_and_the_intern_goes_on_from_it(tmp_path: Path) -> None:
    big, small = pair()
    solution, events = solve(f"shepherding:{predictor(tmp_path, proactive=ALWAYS)}", big, small)
    (hint,), (answer,) = big.calls, small.calls
    assert hint.messages == answer_messages(PROBLEM) and hint.max_tokens == 4 and hint.prefix is None
    assert hint.purpose == "insight"
    assert answer.messages == answer_messages(PROBLEM) and answer.prefix == "one two three four"
    assert solution.text == "one two three four so \\boxed{391}" and solution.answer == "391"
    assert (solution.level, solution.answered_by, solution.insight) == ("hint", "intern", "one two three four")
    assert booked(solution) == [("mentor", "insight", 4, 0), ("intern", "answer", 2, 4)]
    assert [(d.action, d.insight_tokens) for d in solution.trace] == [("go_on", 0), ("stop", 4)]
    assert [e for e in events if isinstance(e, Decision)] == solution.trace
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution.text
    assert "".join(e.text for e in events if isinstance(e, InsightDelta)) == "one two three four"


def test_a_hint_that_is_the_whole_answer_ends_it(tmp_path: Path) -> None:
    big, small = pair()
    strategy = f"shepherding:{predictor(tmp_path, proactive=ALWAYS, tokens=100)}"
    solution, events = solve(strategy, big, small)
    assert (solution.text, solution.level, solution.answered_by) == (MENTOR, "answer", "mentor")
    assert not small.calls and booked(solution) == [("mentor", "answer", 11, 0)]
    assert solution.insight == "" and not solution.truncated
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == MENTOR


def test_a_hint_is_no_longer_than_an_answer_may_be(tmp_path: Path) -> None:
    big, small = pair()
    strategy = f"shepherding:{predictor(tmp_path, proactive=ALWAYS, tokens=100)}"
    solution, _ = solve(strategy, big, small, mentor_max_tokens=6)
    assert big.calls[0].max_tokens == 6
    # All that the mentor may write was bought: that is its answer, as mentor-only has it.
    assert (solution.answered_by, solution.truncated) == ("mentor", True) and not small.calls


@pytest.mark.parametrize("size", [-3.0, 1e9])
def test_a_size_without_sense_is_brought_within_bounds(tmp_path: Path, size: float) -> None:
    big, small = pair()
    folder = predictor(tmp_path, proactive=ALWAYS, proactive_size=constant("value", size))
    solution, _ = solve(f"shepherding:{folder}", big, small)
    assert solution.level == ("none" if size < 0 else "answer")
    assert len(big.calls) == (size > 0)


@pytest.mark.parametrize("written", ["", " \n"])
@pytest.mark.parametrize("variant", ["proactive", "reactive"])
def test_an_empty_hint_is_paid_and_the_intern_answers_once(tmp_path: Path, written: str, variant: str) -> None:
    big, small = pair(mentor=written)
    folder = predictor(tmp_path, proactive=ALWAYS, reactive=ALWAYS)
    solution, events = solve(f"shepherding:{variant},{folder}", big, small)
    assert (solution.text, solution.level, solution.answered_by) == (INTERN, "none", "intern")
    assert len(small.calls) == 1 and small.calls[0].prefix is None
    paid = sorted((e.role, e.purpose) for e in solution.ledger)
    assert paid == [("intern", "answer"), ("mentor", "insight")] and solution.ledger.probe_tokens == 0
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == INTERN


def test_a_hint_ends_where_an_answer_would(tmp_path: Path) -> None:
    big, small = pair()
    problem = PROBLEM.model_copy(update={"sampling": Sampling(stop=("five",))})
    solution, _ = solve(f"shepherding:{predictor(tmp_path, proactive=ALWAYS, tokens=8)}", big, small, problem)
    assert solution.level == "answer" and solution.text.strip() == "one two three four"


def test_reactive_keeps_a_good_answer_without_the_mentor(tmp_path: Path) -> None:
    big, small = pair()
    solution, events = solve(f"shepherding:reactive,{predictor(tmp_path, proactive=ALWAYS)}", big, small)
    assert not big.calls and (solution.level, solution.text) == ("none", INTERN)
    assert len(small.calls) == 1 and small.calls[0].top_logprobs and small.calls[0].messages == answer_messages(PROBLEM)
    assert booked(solution) == [("intern", "answer", 3, 0)]
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == INTERN


def test_reactive_discards_a_bad_answer_and_goes_on_from_a_hint(tmp_path: Path) -> None:
    big, small = pair()
    solution, events = solve(f"shepherding:reactive,{predictor(tmp_path, reactive=ALWAYS)}", big, small)
    assert booked(solution) == [("intern", "probe", 3, 0), ("mentor", "insight", 4, 0), ("intern", "answer", 2, 4)]
    assert solution.answer == "391" and solution.level == "hint"
    told = "".join(e.text for e in events if isinstance(e, AnswerDelta))
    assert told == solution.text and INTERN not in told


def test_reactive_reads_the_answer_it_got(tmp_path: Path) -> None:
    doubt = constant("probability", -1.0, "log_perplexity", 10.0)
    folder = predictor(tmp_path, reactive_needs=doubt)
    levels = {}
    for confidence in (0.99, 0.3):
        big, small = pair()
        small.answer = None
        small.script = Script(rules=(Rule(text=INTERN, confidence=confidence),))
        levels[confidence] = solve(f"shepherding:reactive,{folder}", big, small)[0].level
    assert levels == {0.99: "none", 0.3: "hint"}


def test_each_variant_has_a_threshold_of_its_own_and_the_users_goes_before(tmp_path: Path) -> None:
    even = math.log(0.55 / 0.45)
    folder = predictor(tmp_path, proactive=even, reactive=even)
    for variant, threshold, level in (
        ("proactive", "", "hint"),
        ("reactive", "", "none"),
        ("proactive", ":0.7", "none"),
        ("reactive", ":0.5", "hint"),
    ):
        assert solve(f"shepherding:{variant},{folder}{threshold}", *pair())[0].level == level, (variant, threshold)


def test_a_predictor_of_another_pair_is_used_and_said_to_be(tmp_path: Path) -> None:
    big, small = pair()
    small.spec = small.spec.model_copy(update={"name": "other"})
    solution, _ = solve(f"shepherding:{predictor(tmp_path)}", big, small)
    assert not solution.trace[0].calibrated


ORACLE = "shepherding:oracle"


def right_from(words: int) -> Callable[[Request], str]:
    """Return an intern that is right from a hint of so many words on."""
    return lambda request: (
        f"{request.prefix or ''} so \\boxed{{{391 if len(str(request.prefix or '').split()) >= words else 40}}}"
    )


def test_the_oracle_takes_the_smallest_right_hint_and_is_charged_for_that_alone() -> None:
    big, small = pair(intern=right_from(3))
    solution, _ = solve(ORACLE, big, small)
    assert [call.max_tokens for call in big.calls[1:]] == [2, 4]  # 20 and 40 % of eleven; 60 % is not tried
    assert [len(str(call.prefix or "").split()) for call in small.calls] == [0, 2, 4]
    assert booked(solution) == [("mentor", "insight", 4, 0), ("intern", "answer", 2, 4)]
    assert (solution.level, solution.answer, solution.insight) == ("hint", "391", "one two three four")
    assert (
        "40 %" in solution.trace[-1].reason and "upper bound that looks at the reference" in solution.trace[-1].reason
    )


def test_the_oracle_asks_no_mentor_where_the_intern_is_right() -> None:
    big, small = pair(intern=right_from(0))
    solution, _ = solve(ORACLE, big, small)
    assert not big.calls and solution.level == "none" and len(solution.ledger.entries) == 1


def test_the_oracle_takes_the_mentors_answer_last_and_nothing_where_nothing_helps() -> None:
    solution, _ = solve(ORACLE, *pair(intern=right_from(100)))
    assert (solution.level, solution.answered_by) == ("answer", "mentor")
    assert booked(solution) == [("mentor", "answer", 11, 0)]
    wrong = MENTOR.replace("391", "5")
    solution, _ = solve(ORACLE, *pair(mentor=wrong, intern=right_from(100)))
    assert (solution.level, solution.answered_by) == ("none", "intern")
    assert [entry.role for entry in solution.ledger] == ["intern"]


def test_an_oracle_that_fails_is_charged_for_all_that_it_tried() -> None:
    big, small = pair(intern=right_from(100))
    big.answer, big.script = None, Script(rules=(Rule(text=MENTOR, fault="gone", fault_after=3),))
    with Tandem(big, small, strategy=ORACLE) as tandem, pytest.raises(EndpointError) as caught:
        tandem.solve(PROBLEM)
    assert caught.value.ledger is not None
    assert [entry.role for entry in caught.value.ledger] == ["intern", "mentor"]


def test_the_oracle_needs_a_reference_that_it_can_judge_by() -> None:
    big, small = pair()
    with pytest.raises(UsageError, match=r"looks at the reference, and .* has none"):
        solve(ORACLE, big, small, Problem.from_text(QUESTION, task="math"))
    code = Problem.from_text("Write f.", task="code").model_copy(update={"tests": CodeTests(code="assert f() == 1")})
    with pytest.raises(CapabilityError, match="would have to run code"):
        solve(ORACLE, big, small, code)
    assert not big.calls and not small.calls


def test_an_intern_that_cannot_go_on_from_a_text_is_refused_before_any_problem(tmp_path: Path) -> None:
    big, small = pair(script=Script(continuation=Continuation.SECTIONS))
    with pytest.raises(CapabilityError, match="cannot continue a given text"):
        solve(f"shepherding:{predictor(tmp_path)}", big, small)
    big, small = pair(script=Script(logprobs=False))
    with pytest.raises(CapabilityError, match="log-probabilities"):
        solve(f"shepherding:reactive,{predictor(tmp_path)}", big, small)
    assert solve(f"shepherding:proactive,{predictor(tmp_path)}", big, small)[0].level == "none"


def test_the_dearest_way_is_planned(tmp_path: Path) -> None:
    folder = predictor(tmp_path)
    for variant, first in (("proactive", []), ("reactive", [("intern", "probe", 20, 0)])):
        with Tandem(
            *pair(), strategy=f"shepherding:{variant},{folder}", mentor_max_tokens=30, intern_max_tokens=20
        ) as tandem:
            planned = [(c.role, c.purpose, c.max_tokens, c.read_tokens) for c in tandem.plan().calls("math")]
        assert planned == [*first, ("mentor", "insight", 30, 0), ("intern", "answer", 20, 30)]
    with Tandem(*pair(), strategy=ORACLE, mentor_max_tokens=30) as tandem:
        assert len(tandem.plan().calls("math")) == 2 + 3 + 3


def test_names(tmp_path: Path) -> None:
    strategy = make_strategy("shepherding")
    assert isinstance(strategy, Shepherding)
    assert make_strategy("shepherding:reactive,some/folder").where == "some/folder"  # type: ignore[attr-defined]
    assert make_strategy("shepherding:reactive").variant == "reactive"  # type: ignore[attr-defined]
    oracle = make_strategy(ORACLE)
    assert oracle.bind("any", "pair") == ORACLE and not oracle.saw("x")
    with pytest.raises(UsageError, match="Did you mean reactive"):
        make_strategy("shepherding:reactve")
    with pytest.raises(UsageError, match="has no predictor"):
        make_strategy("shepherding:oracle,folder")
    for wrong in ("shepherding:", "shepherding:reactive,"):
        with pytest.raises(UsageError, match="behind the colon"):
            make_strategy(wrong)
    bound = make_strategy(f"shepherding:{predictor(tmp_path)}")
    assert bound.bind("big", "small").startswith("shepherding@big+small@")


def test_the_demo_pair_has_a_predictor() -> None:
    strategy = make_strategy("shepherding:reactive")
    found = strategy.bind("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b")
    assert found.startswith("shepherding@qwen2.5-coder-1.5b+qwen2.5-coder-0.5b@")
