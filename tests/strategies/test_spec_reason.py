"""SpecReason on fake models: what is scored, what is dropped and rewritten, when the answer ends, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tandem.engine import Tandem
from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.insight import answer_messages
from tandem.models.base import TEMPLATE, Request
from tandem.models.fake import FakeModel, Script
from tandem.runs.estimate import estimate
from tandem.spec import Continuation
from tandem.strategies import make_strategy
from tandem.strategies.best_of import has_answer
from tandem.strategies.spec_reason import DEFAULT_THRESHOLD, MAX_STEPS, STEP_TOKENS
from tandem.types import AnswerDelta, Event, Problem, Sampling, Solution, TaskKind

QUESTION = "What is 17*23?"
GOOD = "Twenty times 17 is 340.", "Three times 17 is 51.", "So it is \\boxed{391}."
Write = Callable[[str], str]


def steps(*lines: str) -> Write:
    """Return what writes one line after the other, whoever wrote those before."""

    def write(so_far: str) -> str:
        at = so_far.count("\n\n")
        return "\n\n".join(lines[at:])

    return write


def pair(
    intern: Write, mentor: Write = lambda _: "", score: Callable[[str], str] = lambda _: "9", **spec: Any
) -> tuple[FakeModel, FakeModel]:
    """Return mentor and intern, each by what it writes behind a text; `score` sees the prompt that asks for one."""
    large, small = FakeModel(name="large"), FakeModel(name="small")
    large.spec = large.spec.model_copy(update=spec)

    def answer(request: Request) -> str:
        so_far = str(request.prefix or "")
        if request.purpose == "score":
            return so_far + score(request.messages[-1].content)
        return so_far + mentor(so_far)

    large.answer = answer
    small.answer = lambda request: str(request.prefix or "") + intern(str(request.prefix or ""))
    return large, small


def run(
    models: tuple[FakeModel, FakeModel], name: str = "spec-reason", problem: Problem | None = None, **options: Any
) -> tuple[Solution, list[Event]]:
    with Tandem(*models, strategy=name, **options) as tandem:
        events = list(tandem.stream(problem or Problem.from_text(QUESTION, task="math")))
    solution = events[-1]
    assert isinstance(solution, Solution)
    told = "".join(event.text for event in events if isinstance(event, AnswerDelta))
    assert told == solution.text  # whatever happens, what was streamed is what the solution has
    return solution, events


def scored(model: FakeModel) -> list[str]:
    return [request.messages[-1].content for request in model.calls if request.purpose == "score"]


def booked(solution: Solution) -> list[tuple[str, str]]:
    return [(entry.role, entry.purpose) for entry in solution.ledger]


def test_steps_that_score_well_are_the_interns_answer() -> None:
    mentor, intern = pair(steps(*GOOD))
    solution, _ = run((mentor, intern))
    assert solution.text == "\n\n".join(GOOD) and solution.answer == "391"
    assert (solution.level, solution.answered_by, solution.insight) == ("steps", "intern", "")
    assert not solution.truncated
    assert [request.prefix for request in intern.calls] == [None, f"{GOOD[0]}\n\n", f"{GOOD[0]}\n\n{GOOD[1]}\n\n"]
    assert all(
        request.messages == answer_messages(Problem.from_text(QUESTION, task="math")) for request in intern.calls
    )
    assert all(request.sampling.stop == ("\n\n",) and request.max_tokens == STEP_TOKENS for request in intern.calls)
    assert booked(solution) == [("intern", "answer"), ("mentor", "score")] * 3
    assert solution.ledger.mentor_tokens == 3  # one a score
    assert [(d.level, d.action, d.signals) for d in solution.trace] == [
        ("steps", "stop", {"step": k, "score": 9}) for k in (1, 2, 3)
    ]


def test_a_score_is_one_greedy_token_over_all_that_is_written() -> None:
    mentor, _ = models = pair(steps(*GOOD))
    solution, _ = run(models, temperature=0.8, seed=3)
    calls = [request for request in mentor.calls if request.purpose == "score"]
    assert all(request.max_tokens == 1 and request.sampling == Sampling() for request in calls)
    first, second, third = scored(mentor)
    assert QUESTION in first and GOOD[0] in first and GOOD[1] not in first
    assert second.startswith(first[: first.index(GOOD[0]) + len(GOOD[0])] + "\n\n" + GOOD[1])  # one beginning for all
    assert third.startswith(second[: second.index(GOOD[1]) + len(GOOD[1])])
    reads = [entry.usage.prompt for entry in solution.ledger.select("mentor", "score")]
    assert reads[1] - reads[0] == len(GOOD[1].split()) and reads[2] - reads[1] == len(GOOD[2].split())


def test_a_weak_step_is_dropped_and_the_mentor_writes_it() -> None:
    mentor, intern = models = pair(
        steps(GOOD[0], "Three times 17 is 50.", GOOD[2]), steps(*GOOD), lambda text: "2" if "50" in text else "8"
    )
    solution, events = run(models)
    assert solution.text == "\n\n".join(GOOD) and solution.answered_by == "intern"
    assert not any("50" in event.text for event in events if isinstance(event, AnswerDelta))
    rewrite = next(request for request in mentor.calls if request.purpose == "answer")
    assert rewrite.prefix == f"{GOOD[0]}\n\n" and rewrite.messages == intern.calls[0].messages
    assert rewrite.sampling.stop == ("\n\n",)
    assert booked(solution) == [
        *[("intern", "answer"), ("mentor", "score")],
        *[("intern", "probe"), ("mentor", "score"), ("mentor", "answer")],
        *[("intern", "answer"), ("mentor", "score")],
    ]
    assert solution.ledger.probe_tokens == 5
    assert [entry.read_tokens for entry in solution.ledger.select("intern")] == [0, 0, 5]  # the mentor's step
    assert [d.action for d in solution.trace] == ["stop", "go_on", "stop"]
    assert solution.trace[1].signals == {"step": 2, "score": 2} and solution.trace[1].reason == "scored 2, below 7"
    assert [d.insight_tokens for d in solution.trace] == [0, 0, 5]


def test_whoever_writes_the_last_step_has_answered() -> None:
    solution, _ = run(pair(steps("It is \\boxed{1}."), steps("It is \\boxed{391}."), lambda _: "0"))
    assert (solution.answered_by, solution.answer, solution.level) == ("mentor", "391", "steps")
    assert booked(solution) == [("intern", "probe"), ("mentor", "score"), ("mentor", "answer")]


@pytest.mark.parametrize("said", ["x", "10", "", "٧", "-1", "7.5"])
def test_a_score_that_is_no_digit_counts_as_weak(said: str) -> None:
    solution, _ = run(pair(steps("It is \\boxed{1}."), steps("It is \\boxed{391}."), lambda _: said), "spec-reason:0")
    assert solution.answer == "391" and booked(solution)[0] == ("intern", "probe")
    (decision,) = solution.trace
    assert (decision.action, decision.signals) == ("go_on", {"step": 1})
    assert decision.reason == f"the mentor's score {said!r} is no digit"


@pytest.mark.parametrize(("threshold", "by"), [(0, "intern"), (5, "intern"), (6, "mentor"), (9, "mentor")])
def test_a_step_is_kept_from_the_threshold_on(threshold: int, by: str) -> None:
    models = pair(steps("It is \\boxed{1}."), steps("It is \\boxed{391}."), lambda _: "5")
    assert run(models, f"spec-reason:{threshold}")[0].answered_by == by


def test_names() -> None:
    assert DEFAULT_THRESHOLD == 7 and make_strategy("spec-reason").threshold == 7  # type: ignore[attr-defined]
    assert make_strategy("spec-reason:0").threshold == 0  # type: ignore[attr-defined]
    for wrong in ("x", "", "-1", "10", "7.5", "٧"):
        with pytest.raises(UsageError, match=f"^spec-reason takes a score from 0 to 9, as in .*:5, not '{wrong}'$"):
            make_strategy(f"spec-reason:{wrong}")


@pytest.mark.parametrize("role", ["mentor", "intern"])
@pytest.mark.parametrize("continuation", [Continuation.SECTIONS, Continuation.NONE])
def test_both_models_must_continue_text(role: str, continuation: Continuation) -> None:
    models = {"mentor": FakeModel(name="large"), "intern": FakeModel(name="small")}
    models[role] = FakeModel(Script(continuation=continuation), name="dumb")
    with pytest.raises(CapabilityError, match=r"^strategy 'spec-reason' .* dumb cannot continue a partial answer"):
        run((models["mentor"], models["intern"]))
    assert not models["mentor"].calls and not models["intern"].calls


def test_a_step_that_stands_there_already_is_rewritten_unseen() -> None:
    mentor, _ = models = pair(lambda _: GOOD[0], steps(*GOOD))
    solution, _ = run(models)
    assert solution.text == "\n\n".join(GOOD)
    assert len(scored(mentor)) == 1 and solution.trace[1].reason == "the step stands there already"
    assert solution.ledger.probe_tokens == 2 * 5


def test_an_intern_that_writes_nothing_is_helped_on() -> None:
    solution, _ = run(pair(lambda _: "", steps(*GOOD)))
    assert solution.text == "\n\n".join(GOOD) and solution.answered_by == "mentor"
    assert {d.reason for d in solution.trace} == {"the intern wrote nothing"}


@pytest.mark.parametrize("more", ["", GOOD[0], f" {GOOD[0]}\n"])
def test_where_the_mentor_has_nothing_more_to_say_the_answer_is_as_it_stands(more: str) -> None:
    solution, _ = run(pair(lambda text: "" if text else GOOD[0], lambda _: more))
    assert (solution.text, solution.answered_by, solution.truncated) == (GOOD[0], "intern", False)


def test_two_models_that_say_nothing() -> None:
    solution, _ = run(pair(lambda _: "", lambda _: ""))
    assert (solution.text, solution.answer, solution.answered_by) == ("", None, "mentor")


def test_an_answer_without_end_ends_after_forty_steps() -> None:
    mentor, intern = models = pair(lambda text: f"And {text.count('And')} more.")
    solution, _ = run(models)
    assert MAX_STEPS == 40 and len(intern.calls) == 40 and len(scored(mentor)) == 40
    assert solution.truncated and solution.text.endswith("And 39 more.")


@pytest.mark.parametrize("weak", [False, True])
def test_each_model_writes_at_most_its_cap_of_the_answer(weak: bool) -> None:
    line: Write = lambda text: f"And {text.count('And')} more."  # noqa: E731
    mentor, intern = models = pair(line, lambda text: line(text) + " Yes.", lambda _: "0" if weak else "9")
    solution, _ = run(models, intern_max_tokens=50 if weak else 7, mentor_max_tokens=9 if weak else 50)
    writer = mentor if weak else intern
    assert [r.max_tokens for r in writer.calls if r.purpose == "answer"] == ([9, 5, 1] if weak else [7, 4, 1])
    assert solution.ledger.tokens("mentor" if weak else "intern", "answer") == (9 if weak else 7)
    assert solution.truncated


def test_a_step_ends_at_its_cap_within_a_line() -> None:
    long = " ".join(f"w{k}" for k in range(STEP_TOKENS + 88)) + " \\boxed{1}"
    _, intern = models = pair(lambda text: long[len(text) :])
    solution, _ = run(models)
    assert solution.text == long and len(intern.calls) == 2 and not solution.truncated
    assert intern.calls[1].prefix == intern.cut(long, STEP_TOKENS)


def test_a_general_question_is_written_in_whole_steps() -> None:
    essay = "One.\n\nTwo.\n\nThree."
    _, intern = models = pair(lambda _: essay)
    solution, _ = run(models, problem=Problem.from_text("Say something", task="general"))
    assert solution.text == essay and len(intern.calls) == 1 and intern.calls[0].sampling.stop == ()
    assert not solution.truncated


def test_stop_sequences_of_ones_own_are_left_alone() -> None:
    problem = Problem.from_text(QUESTION, task="math").model_copy(update={"sampling": Sampling(stop=("END",))})
    _, intern = models = pair(lambda _: "One.\n\nTwo.END Three.")
    solution, _ = run(models, problem=problem)
    assert solution.text == "One.\n\nTwo." and intern.calls[0].sampling.stop == ("END",)


def test_code_ends_with_its_fence() -> None:
    parts = "Here:\n```python\nimport math", "def f():\n    return 2\n```", "That is all."
    solution, _ = run(pair(steps(*parts)), problem=Problem.from_text("Write f", task="code"))
    assert solution.text == "\n\n".join(parts[:2])
    assert solution.answer == "import math\n\ndef f():\n    return 2"


def test_what_is_boxed_while_thinking_is_not_the_answer() -> None:
    parts = "Perhaps \\boxed{1}?", "No.\n</think>", "It is \\boxed{391}.", "More."
    solution, _ = run(pair(steps(*parts), insight_mode="prefix"))
    assert solution.text == "\n\n".join(parts[:3]) and solution.answer == "391"


def test_a_full_context_ends_the_answer() -> None:
    problem = Problem.from_text(QUESTION, task="math")
    model = FakeModel()
    prompt = sum(model.count(m.content) for m in answer_messages(problem)) + TEMPLATE
    _, intern = models = pair(lambda text: f" w{len(text)} and more.")
    intern.spec = intern.spec.model_copy(update={"context": prompt + 5})
    solution, _ = run(models)
    assert solution.text == " w0 and more.\n\n w15 w19" and solution.truncated
    intern.spec = intern.spec.model_copy(update={"context": prompt})
    with pytest.raises(UsageError, match="too long for small"):
        run(models)


def test_without_room_for_a_score_the_mentor_goes_on_by_itself() -> None:
    problem = Problem.from_text(QUESTION, task="math")
    model = FakeModel()
    prompt = sum(model.count(m.content) for m in answer_messages(problem)) + TEMPLATE
    mentor, _ = models = pair(steps("It is \\boxed{1}."), steps("It is \\boxed{391}."), context=prompt + 10)
    solution, _ = run(models)
    assert solution.answer == "391" and not scored(mentor)
    assert solution.trace[0].reason == "the mentor's context has no room for a score"


def test_a_mentor_that_fails_leaves_the_step_in_the_ledger() -> None:
    def down(_: str) -> str:
        raise EndpointError("the mentor is down")

    with pytest.raises(EndpointError) as caught:
        run(pair(steps(*GOOD), score=down))
    assert caught.value.ledger is not None
    entries = caught.value.ledger.entries
    assert [(e.role, e.purpose, e.error) for e in entries] == [
        ("intern", "answer", None),
        ("mentor", "score", "the mentor is down"),
    ]


def test_the_estimate_covers_the_dearest_way() -> None:
    line: Write = lambda text: f"And {text.count('And')} more."  # noqa: E731
    models = pair(line, lambda text: line(text) + " Yes.", lambda _: "0")
    problem = Problem.from_text(QUESTION, task="math")
    with Tandem(*models, strategy="spec-reason", intern_max_tokens=30, mentor_max_tokens=200) as tandem:
        most = estimate(tandem.plan(), [problem])["at_most"]
        ledger = tandem.solve(problem).ledger
        planned = tandem.plan().calls("math")
    assert len(ledger.entries) == len(planned) == 3 * MAX_STEPS
    alone = sum(models[0].count(m.content) for m in answer_messages(problem))
    for call, entry in zip(planned, ledger.entries, strict=True):
        assert (call.role, call.purpose) == (entry.role, entry.purpose)
        assert entry.usage.prompt <= alone + call.read_tokens + TEMPLATE
    assert ledger.mentor_tokens <= most["mentor_tokens"] <= 200 + MAX_STEPS
    assert ledger.intern_tokens <= most["intern_tokens"] and (ledger.tflops or 0) <= most["tflops"]


@pytest.mark.parametrize(
    ("task", "text", "ends"),
    [
        ("math", "so \\boxed{3}", True),
        ("math", "the answer is 3", False),
        ("math", "so \\boxed{3", False),
        ("math", "<think>\\boxed{3}", False),
        ("math", "<think>\\boxed{3}</think> hm", False),
        ("choice", "\\boxed{B} it is", True),
        ("code", "```python\nx = 1\n```", True),
        ("code", "```python\nx = 1", False),
        ("code", "x = 1", False),
        ("general", "\\boxed{3}", False),
    ],
)
def test_where_an_answer_stands(task: TaskKind, text: str, ends: bool) -> None:
    assert has_answer(task, text) is ends
