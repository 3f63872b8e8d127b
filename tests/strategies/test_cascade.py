"""Cascade: the intern's answer as intern-only asks for it, judged whole; the mentor only where it does not stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from predicted import constant, reads, save

from tandem.engine import Tandem
from tandem.errors import CapabilityError, EndpointError, TandemError
from tandem.models.fake import FakeModel, Rule, Script
from tandem.sufficiency.predictor import Head
from tandem.types import AnswerDelta, Decision, Event, Solution

QUESTION = "What is 17*23?"
INTERN = "it must be \\boxed{400}"
MENTOR = "the mentor says \\boxed{391}"


def model(text: str, confidence: float | None = None, **script: object) -> FakeModel:
    return FakeModel(Script(rules=(Rule(text=text, confidence=confidence),), **script))  # type: ignore[arg-type]


def cascade(
    tmp_path: Path, head: Head, threshold: float = 0.5, *, intern: FakeModel | None = None, **options: object
) -> tuple[list[Event], FakeModel, FakeModel]:
    mentor, intern = model(MENTOR), intern or model(INTERN)
    save(tmp_path, "cascade", {"right": head}, threshold)
    with Tandem(mentor, intern, strategy=f"cascade:{tmp_path}", **options) as tandem:  # type: ignore[arg-type]
        return list(tandem.stream(QUESTION, task="math")), mentor, intern


def ended(events: list[Event]) -> tuple[Solution, Decision]:
    (decision,) = [event for event in events if isinstance(event, Decision)]
    solution = events[-1]
    assert isinstance(solution, Solution) and solution.trace == [decision]
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution.text
    return solution, decision


def test_an_answer_that_stands_is_all_that_is_asked(tmp_path: Path) -> None:
    events, mentor, intern = cascade(tmp_path, constant(0.8))
    solution, decision = ended(events)
    assert (solution.text, solution.level, solution.answered_by) == (INTERN, "none", "intern")
    assert (decision.action, decision.threshold, decision.calibrated) == ("stop", 0.5, True)
    assert decision.sufficiency == pytest.approx(0.8)
    assert not mentor.calls and [(e.role, e.purpose) for e in solution.ledger] == [("intern", "answer")]
    assert not intern.aborted


def test_the_interns_request_is_that_of_intern_only(tmp_path: Path) -> None:
    _, _, intern = cascade(tmp_path, constant(0.2), intern_max_tokens=90, temperature=0.5, seed=3)
    plain = model(INTERN)
    with Tandem("fake", plain, strategy="intern-only", intern_max_tokens=90, temperature=0.5, seed=3) as tandem:
        tandem.solve(QUESTION, task="math")
    (asked,), (alone,) = intern.calls, plain.calls
    assert asked.top_logprobs and replace(asked, top_logprobs=None) == alone


def test_an_answer_that_falls_is_a_probe_and_the_mentor_answers_alone(tmp_path: Path) -> None:
    events, mentor, intern = cascade(tmp_path, constant(0.2), mentor_max_tokens=80)
    solution, decision = ended(events)
    assert (solution.text, solution.answer, solution.level) == (MENTOR, "391", "answer")
    assert solution.answered_by == "mentor" and decision.action == "answer"
    assert [(e.role, e.purpose) for e in solution.ledger] == [("intern", "probe"), ("mentor", "answer")]
    assert solution.ledger.probe_tokens == intern.count(INTERN) and not intern.aborted  # a whole answer
    plain = model(MENTOR)
    with Tandem(plain, "fake", strategy="mentor-only", mentor_max_tokens=80) as tandem:
        tandem.solve(QUESTION, task="math")
    assert mentor.calls == plain.calls and len(intern.calls) == 1


def test_exactly_at_the_threshold_it_stands(tmp_path: Path) -> None:
    half = reads("log_question_tokens", 0.0)
    assert ended(cascade(tmp_path, half, 0.5)[0])[0].answered_by == "intern"
    assert ended(cascade(tmp_path, half, 0.5000001)[0])[0].answered_by == "mentor"


def test_the_whole_answers_uncertainty_decides(tmp_path: Path) -> None:
    head = reads("log_perplexity", -10.0, 3.0)
    sure, unsure = (cascade(tmp_path, head, intern=model(INTERN, confidence))[0] for confidence in (0.99, 0.4))
    assert ended(sure)[0].answered_by == "intern" and ended(unsure)[0].answered_by == "mentor"
    assert set(ended(sure)[1].signals) == {"log_perplexity"}  # what the predictor read, no more


def test_an_answer_cut_at_its_cap_may_be_told_by_that(tmp_path: Path) -> None:
    head, intern = reads("truncated", -4.0, 2.0), model("\\boxed{1} or rather \\boxed{400}")
    assert ended(cascade(tmp_path, head, intern=intern)[0])[0].answered_by == "intern"
    cut = cascade(tmp_path, head, intern=model("\\boxed{1} or rather \\boxed{400}"), intern_max_tokens=3)
    assert ended(cut[0])[1].signals == {"truncated": 1.0} and ended(cut[0])[0].answered_by == "mentor"


def test_what_has_no_answer_is_taken_for_wrong(tmp_path: Path) -> None:
    solution, decision = ended(cascade(tmp_path, constant(0.99), intern=model("let us think about it"))[0])
    assert (solution.answered_by, decision.sufficiency) == ("mentor", 0.0)
    assert decision.reason == "no answer can be read out of the intern's text"
    solution, _ = ended(cascade(tmp_path, constant(0.99), 0.0, intern=model("let us think about it"))[0])
    assert solution.answered_by == "intern"  # a threshold of 0 lets everything stand


def test_nothing_of_a_discarded_answer_is_streamed(tmp_path: Path) -> None:
    events, _, _ = cascade(tmp_path, constant(0.2))
    assert isinstance(events[0], Decision) and not any("400" in e.text for e in events if isinstance(e, AnswerDelta))


def test_a_predictor_of_another_pair_is_not_calibrated(tmp_path: Path) -> None:
    save(tmp_path, "cascade", {"right": constant(0.9)}, pair=("big", "fake"))
    with Tandem("fake", "fake", strategy=f"cascade:{tmp_path}:0.95") as tandem:
        solution = tandem.solve(QUESTION, task="math")
    (decision,) = solution.trace
    assert not decision.calibrated and decision.threshold == 0.95 and solution.answered_by == "mentor"


def test_an_intern_without_log_probabilities_is_refused_before_any_problem(tmp_path: Path) -> None:
    save(tmp_path, "cascade", {"right": constant(0.9)})
    intern = model(INTERN, logprobs=False)
    with (
        Tandem("fake", intern, strategy=f"cascade:{tmp_path}") as tandem,
        pytest.raises(CapabilityError, match="strategy 'cascade' reads the intern's log-probabilities"),
    ):
        tandem.solve(QUESTION, task="math")
    assert not intern.calls


def test_a_server_that_sends_none_all_the_same_is_an_error(tmp_path: Path) -> None:
    intern = model(INTERN)
    intern.script = intern.script.model_copy(update={"logprobs": False})  # its specification says that it does
    with pytest.raises(TandemError, match="sent no log-probabilities"):
        cascade(tmp_path, constant(0.9), intern=intern)


def test_what_was_paid_before_a_fault_is_charged(tmp_path: Path) -> None:
    intern = FakeModel(Script(rules=(Rule(text=INTERN, fault="the server is gone", fault_after=2),)))
    with pytest.raises(EndpointError, match="the server is gone") as caught:
        cascade(tmp_path, constant(0.9), intern=intern)
    ledger = caught.value.ledger
    assert ledger is not None and [(e.role, e.usage.completion) for e in ledger] == [("intern", 2)]


def test_the_estimate_has_both_answers(tmp_path: Path) -> None:
    save(tmp_path, "cascade", {"right": constant(0.9)})
    with Tandem("fake", "fake", strategy=f"cascade:{tmp_path}", mentor_max_tokens=70, intern_max_tokens=50) as tandem:
        assert [(c.role, c.purpose, c.max_tokens) for c in tandem.plan().calls("math")] == [
            ("intern", "probe", 50),
            ("mentor", "answer", 70),
        ]
        assert tandem.plan().roles == ("mentor", "intern")
