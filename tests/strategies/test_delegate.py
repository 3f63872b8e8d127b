"""Delegate on fake models: what counts as a call, what each side is told, when the conversation ends, what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.engine import Tandem
from tandem.errors import UsageError
from tandem.insight import answer_messages
from tandem.models.base import TEMPLATE, Request
from tandem.models.fake import FakeModel
from tandem.runs.estimate import estimate
from tandem.strategies.delegate import MAX_TURNS, REPLY_TOKENS
from tandem.strategies.delegate_protocol import find_ask
from tandem.types import AnswerDelta, Problem, Sampling, Solution

QUESTION = "What is 17*23?"
SMALL = "What is 17 times 20?"
BOXED = "So it is \\boxed{391}"


def mentor_with(*turns: str, **spec: Any) -> FakeModel:
    """Return a mentor that writes one text a turn, and the last of them again and again."""
    model = FakeModel(name="large")
    model.spec = model.spec.model_copy(update=spec)
    model.answer = lambda request: turns[min(len(model.calls), len(turns)) - 1]
    return model


def intern_with(reply: str = "340") -> FakeModel:
    model = FakeModel(name="small")
    model.answer = lambda request: reply
    return model


def run(mentor: FakeModel, intern: FakeModel | None = None, problem: Problem | None = None, **options: Any) -> Solution:
    with Tandem(mentor, intern or intern_with(), strategy="delegate", **options) as tandem:
        events = list(tandem.stream(problem or Problem.from_text(QUESTION, task="math")))
    solution = events[-1]
    assert isinstance(solution, Solution)
    assert "".join(event.text for event in events if isinstance(event, AnswerDelta)) == solution.text
    return solution


def told(request: Request) -> str:
    return request.messages[-1].content


def is_last(request: Request) -> bool:
    """Whether a turn is the one that gives the problem as to a mentor alone."""
    return told(request).startswith(answer_messages(Problem.from_text(QUESTION, task="math"))[-1].content)


def reasons(solution: Solution) -> list[str]:
    return [decision.reason for decision in solution.trace]


def test_a_question_goes_to_the_intern_and_its_reply_to_the_mentor() -> None:
    mentor, intern = mentor_with(f"First:\n<ask>{SMALL}</ask> It is 300.", BOXED), intern_with()
    solution = run(mentor, intern)
    first, second = mentor.calls
    assert QUESTION in told(first) and "<ask>" in told(first) and first.sampling.stop == ("</ask>",)
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert second.messages[0] == first.messages[0]
    assert second.messages[1].content == f"First:\n<ask>{SMALL}</ask>" and told(second) == "Reply: 340"
    (asked,) = intern.calls
    assert asked.messages == answer_messages(Problem.from_text(SMALL, task="math"))
    assert asked.max_tokens == REPLY_TOKENS and asked.affinity == first.affinity
    assert (solution.text, solution.answer, solution.level, solution.answered_by) == (
        *(BOXED, "391"),
        *("delegate", "mentor"),
    )
    assert solution.insight == "" and not solution.truncated


def test_every_hop_reads_the_whole_conversation_and_is_charged_for_it() -> None:
    turns = (f"<ask>{SMALL}</ask>", "<ask>What is 17 times 3?</ask>", BOXED)
    solution = run(mentor_with(*turns))
    entries = solution.ledger.entries
    assert [(e.role, e.purpose) for e in entries] == [
        *[("mentor", "answer"), ("intern", "answer")] * 2,
        ("mentor", "answer"),
    ]
    first, second, third = (entry.usage.prompt for entry in entries[::2])
    assert second - first == len(f"<ask>{SMALL}</ask> Reply: 340".split())
    assert third - second == len(["<ask>What", "is", "17", "times", "3?</ask>", "Reply:", "340"])
    assert [e.read_tokens for e in entries if e.role == "intern"] == [len(SMALL.split()), 5]


def test_the_record_tells_how_many_calls_were_valid() -> None:
    solution = run(mentor_with(f"<ask>{SMALL}</ask>", "<ask></ask>", "<ask>And 17 times 3?</ask>", BOXED))
    assert [(d.level, d.action) for d in solution.trace] == [*[("delegate", "go_on")] * 3, ("delegate", "answer")]
    assert [d.signals for d in solution.trace] == [
        {"valid_calls": valid, "turns": turn} for turn, valid in enumerate((1, 1, 2, 2), start=1)
    ]
    assert reasons(solution) == [f"asks: {SMALL}", "asks, unanswered: (nothing)", "asks: And 17 times 3?", "answers"]


def test_a_long_question_is_shortened_in_the_record_only() -> None:
    long = "What is " + "1 + " * 100 + "1?"
    intern = intern_with()
    solution = run(mentor_with(f"<ask>{long}</ask>", BOXED), intern)
    assert len(reasons(solution)[0]) < 100 and reasons(solution)[0].endswith("…")
    assert long in told(intern.calls[0])


def test_a_mentor_that_never_asks_has_answered_alone() -> None:
    intern = intern_with()
    solution = run(mentor_with(BOXED), intern)
    assert (solution.level, solution.answer, len(intern.calls)) == ("answer", "391", 0)
    assert solution.trace[-1].signals == {"valid_calls": 0, "turns": 1}


@pytest.mark.parametrize(
    ("message", "before", "question"),
    [
        (f"<ask>{SMALL}</ask>", "", SMALL),
        (f"<ask>{SMALL}", "", SMALL),
        (f"Hm.\n<ask>\n{SMALL}\n\nIt is 340.", "Hm.\n", SMALL),
        (f"<ask>{SMALL}<ask>Another?", "", SMALL),
        ("<ASK>Two\nlines?</Ask> more", "", "Two\nlines?"),
        (f"ASK: {SMALL}\nASK: Another?\nREPLY: 3", "", SMALL),
        (f"Hm.\n**Ask:** {SMALL}\nIt is 340.", "Hm.\n", SMALL),
        (f"- ask: `{SMALL}`", "", SMALL),
        (f"```\nASK: {SMALL}\n```", "```\n", SMALL),
        (f"```\n<ask>{SMALL}</ask>\n```", "```\n", SMALL),
        (f'<ask>"{SMALL}"</ask>', "", SMALL),
        ("<ask></ask>", "", ""),
        (" \n", "", ""),
        ("<ask> ... </ask>", "", ""),
        ("ASK:\nWhat now?", "", ""),
        ("<ask>a small question that says all the facts and numbers it needs</ask>", "", ""),
    ],
)
def test_the_first_call_in_a_message_counts(message: str, before: str, question: str) -> None:
    ask = find_ask(message)
    assert ask is not None and (ask.before, ask.text) == (before, question)
    assert find_ask(ask.message) == ask  # in the form in which the mentor reads it again


@pytest.mark.parametrize("message", [BOXED, "I ask: why?", "a task: easy", "Asking: no", "</ask>"])
def test_what_is_no_call(message: str) -> None:
    assert find_ask(message) is None


def test_a_question_asked_before_is_not_put_to_the_intern_again() -> None:
    mentor, intern = mentor_with(f"<ask>{SMALL}</ask>", "<ask>what is  17 TIMES 20?</ask>", BOXED), intern_with()
    solution = run(mentor, intern)
    assert len(intern.calls) == 1 and told(mentor.calls[2]) == "You asked that before. The reply was: 340"
    assert solution.trace[-1].signals == {"valid_calls": 1, "turns": 3}


def test_after_two_calls_in_vain_the_mentor_must_answer() -> None:
    mentor = mentor_with(f"<ask>{SMALL}</ask>")
    solution = run(mentor)
    assert len(mentor.calls) == 4 and is_last(mentor.calls[3]) and told(mentor.calls[3]).endswith(f"\n- {SMALL}\n  340")
    assert mentor.calls[3].sampling.stop == () and not is_last(mentor.calls[2])
    assert reasons(solution)[-1] == "has to answer" and solution.text == f"<ask>{SMALL}</ask>"


def test_an_empty_message_is_no_answer() -> None:
    mentor = mentor_with(f"<ask>{SMALL}</ask>", "", BOXED)
    solution = run(mentor)
    assert solution.answer == "391" and reasons(solution)[1:] == ["asks, unanswered: (nothing)", "answers"]
    assert mentor.calls[2].messages[-2].content == "<ask></ask>" and "or give the final answer" in told(mentor.calls[2])


def test_a_valid_call_between_two_in_vain_forgives_the_first() -> None:
    mentor = mentor_with("<ask></ask>", f"<ask>{SMALL}</ask>", "<ask></ask>", BOXED)
    run(mentor)
    assert len(mentor.calls) == 4 and not any(map(is_last, mentor.calls))
    assert told(mentor.calls[1]).startswith("There was no question.")


def test_an_answer_before_a_question_ends_the_conversation() -> None:
    mentor, intern = mentor_with(f"{BOXED}.\n<ask>Is that right?</ask>"), intern_with()
    solution = run(mentor, intern)
    assert (solution.text, solution.answer, len(mentor.calls), len(intern.calls)) == (f"{BOXED}.", "391", 1, 0)


def test_an_answer_behind_a_question_was_given_too_early() -> None:
    mentor = mentor_with(f"ASK: {SMALL}\nREPLY: 300\nSo it is \\boxed{{351}}", BOXED)
    assert run(mentor).answer == "391"
    assert "351" not in mentor.calls[1].messages[1].content


def test_code_may_be_asked_for_and_given() -> None:
    code = "```python\ndef f():\n    return 2\n```"
    mentor, intern = mentor_with("<ask>Write a function g that returns 1.</ask>", code), intern_with("g")
    solution = run(mentor, intern, Problem.from_text("Write f", task="code"))
    assert solution.answer == "def f():\n    return 2" and "```python" in told(intern.calls[0])
    solution = run(mentor_with(f"{code}\n<ask>Fine?</ask>"), problem=Problem.from_text("Write f", task="code"))
    assert solution.text == code


def test_a_choice_asks_free_questions() -> None:
    intern = intern_with()
    run(mentor_with(f"<ask>{SMALL}</ask>", "\\boxed{B}"), intern, Problem.from_text("A or B?", task="choice"))
    assert told(intern.calls[0]) == SMALL


def test_earlier_turns_and_stop_sequences_of_a_problem_are_kept() -> None:
    problem = Problem.model_validate(
        {
            "id": "p",
            "task": "math",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
            "sampling": Sampling(stop=("END",), temperature=0.5),
        }
    )
    mentor, intern = mentor_with(f"<ask>{SMALL}</ask>", BOXED), intern_with()
    run(mentor, intern, problem)
    assert mentor.calls[1].messages[0].content == "Be brief." and len(mentor.calls[1].messages) == 4
    assert mentor.calls[0].sampling == Sampling(stop=("END", "</ask>"), temperature=0.5)
    assert intern.calls[0].sampling == problem.sampling


def test_a_conversation_without_end_has_fifteen_turns() -> None:
    mentor, intern = FakeModel(name="large"), intern_with()
    mentor.answer = lambda request: f"<ask>What is {len(mentor.calls)} + 1?</ask>"
    solution = run(mentor, intern)
    assert MAX_TURNS == 15 and len(mentor.calls) == 15 and len(intern.calls) == 14
    assert [is_last(request) for request in mentor.calls] == [False] * 14 + [True]
    assert mentor.calls[-1].sampling.stop == () and solution.text == "<ask>What is 15 + 1?</ask>"
    assert solution.trace[-1].signals == {"valid_calls": 14, "turns": 15} and reasons(solution)[-1] == "has to answer"


def test_the_mentors_cap_holds_over_all_turns() -> None:
    mentor = FakeModel(name="large")
    mentor.answer = lambda request: f"one two three four <ask>What is {len(mentor.calls)} + 1?</ask>"  # 9 tokens
    solution = run(mentor, mentor_max_tokens=40)
    assert [request.max_tokens for request in mentor.calls] == [40, 31, 22, 13, 4]
    assert [is_last(request) for request in mentor.calls] == [False] * 4 + [True]  # 10 were kept for it
    assert solution.ledger.mentor_tokens == 40 and solution.truncated


def test_a_mentor_that_spent_its_cap_on_a_question_gets_no_reply() -> None:
    intern = intern_with()
    solution = run(mentor_with("one two three <ask>What is 1 + 1?</ask>"), intern, mentor_max_tokens=5)
    assert not intern.calls and solution.text == "one two three <ask>What is" and solution.truncated
    assert solution.level == "answer" and "no room" in reasons(solution)[0]


def test_a_context_that_fills_up_ends_with_an_answer() -> None:
    intern = intern_with("340 " * 400)
    mentor = FakeModel(name="large")
    mentor.answer = lambda r: BOXED if is_last(r) else f"<ask>What is {len(mentor.calls)} + 1?</ask>"
    mentor.spec = mentor.spec.model_copy(update={"context": 1500})
    solution = run(mentor, intern)
    assert 2 < len(mentor.calls) < MAX_TURNS and solution.answer == "391"
    for request in mentor.calls:
        assert sum(mentor.count(m.content) for m in request.messages) + request.max_tokens + TEMPLATE <= 1500
    assert mentor.calls[-1].max_tokens >= 100


def test_a_problem_that_is_too_long_for_the_mentor() -> None:
    with pytest.raises(UsageError, match="too long for large"):
        run(mentor_with(BOXED, context=TEMPLATE + 10))


def test_a_question_that_is_too_long_for_the_intern() -> None:
    intern, mentor = intern_with(), mentor_with("<ask>" + "very " * 300 + "long?</ask>", BOXED)
    intern.spec = intern.spec.model_copy(update={"context": 200})
    solution = run(mentor, intern)
    assert not intern.calls and "too long for the assistant" in told(mentor.calls[1])
    assert solution.trace[-1].signals["valid_calls"] == 0


@pytest.mark.parametrize(
    ("reply", "heard"), [("", "(nothing)"), ("<think>hm</think>\n340", "340"), ("<think>", "(nothing)")]
)
def test_of_a_reply_the_mentor_reads_what_follows_the_thinking(reply: str, heard: str) -> None:
    mentor = mentor_with(f"<ask>{SMALL}</ask>", BOXED)
    run(mentor, intern_with(reply))
    assert told(mentor.calls[1]) == f"Reply: {heard}"


@pytest.mark.parametrize("thoughts", [4, 400])
def test_the_estimate_covers_a_conversation_without_end(thoughts: int) -> None:
    mentor, intern = FakeModel(name="large"), intern_with("340 " * 50)
    mentor.answer = lambda request: (
        "so " * (4 if request.messages[1:] else thoughts) + f"<ask>What is {len(mentor.calls)} + 1?</ask>"
    )
    problem = Problem.from_text(QUESTION, task="math")
    with Tandem(mentor, intern, strategy="delegate", mentor_max_tokens=600, intern_max_tokens=40) as tandem:
        most = estimate(tandem.plan(), [problem])["at_most"]
        ledger = tandem.solve(problem).ledger
        planned = tandem.plan().calls("math")
    assert len(planned) == 2 * MAX_TURNS - 1 and len(ledger.entries) == (len(planned) if thoughts == 4 else 13)
    assert max(call.max_tokens for call in planned if call.role == "intern") == 40
    assert ledger.mentor_tokens <= most["mentor_tokens"] and ledger.intern_tokens <= most["intern_tokens"]
    alone = sum(mentor.count(m.content) for m in answer_messages(problem))
    for call, entry in zip(planned, ledger.entries, strict=False):
        assert call.role == entry.role and entry.usage.prompt <= alone + call.read_tokens
