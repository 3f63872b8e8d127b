"""What is thought is told from what is answered: in texts, in streams cut anywhere, and never graded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import Tandem
from tandem.grading import answer_of, grade
from tandem.models.fake import FakeModel, Rule, Script
from tandem.thinking import CLOSES, OPENS, ThinkingSplitter, after_thinking, as_thought, is_open, split_thinking
from tandem.types import AnswerDelta, CodeTests, Problem, Solution, TaskKind, ThinkingDelta

# Words of which some look like the beginning or the end of a tag.
WORDS = st.lists(
    st.sampled_from(["a", " b\n", "<", "<th", "</", "think>", "\\boxed{7}", " 7", "x<y", "答"]), max_size=12
)
TEXT = WORDS.map("".join).filter(lambda text: OPENS not in text and CLOSES not in text)
PROBLEMS = [
    Problem.from_text("What is 3+4?", task="math", reference="8"),
    Problem.from_text("Which?", task="choice", reference="B"),
    Problem.from_text("Say it.", task="general", reference="8").model_copy(update={"grader": "exact"}),
    Problem.from_text("Say it.", task="math", reference="8").model_copy(update={"grader": "gsm8k"}),
]


def told(splitter: ThinkingSplitter, pieces: list[str]) -> tuple[str, str]:
    found = [part for piece in pieces for part in splitter.feed(piece)] + list(splitter.close())
    return "".join(text for thought, text in found if thought), "".join(text for thought, text in found if not thought)


@given(TEXT, TEXT, st.data())
def test_a_stream_is_split_as_the_whole_is(thought: str, answer: str, data: st.DataObject) -> None:
    whole = f"{OPENS}{thought}{CLOSES}{answer}"
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    expected = thought.lstrip(), answer.lstrip()
    assert split_thinking(whole) == told(ThinkingSplitter(), pieces) == expected
    # Where the prompt had the tag, and where it had it and the model repeats it.
    assert told(ThinkingSplitter(within=True), pieces) == expected
    assert told(ThinkingSplitter(within=True), list(whole.removeprefix(OPENS))) == expected
    assert split_thinking(whole.removeprefix(OPENS)) == expected
    assert after_thinking(whole).lstrip() == expected[1]


@given(TEXT)
def test_a_text_without_tags_is_all_answer_and_an_open_thought_has_none(text: str) -> None:
    assert split_thinking(text) == ("", text) and not is_open(text)
    assert split_thinking(as_thought(text)) == (text.lstrip(), "") and is_open(as_thought(text))
    assert as_thought(as_thought(text)) == as_thought(text)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: f"{p.task}-{p.grader}")
@given(thought=TEXT)
async def test_a_thought_is_never_graded(problem: Problem, thought: str) -> None:
    right = {"choice": "It is \\boxed{B}."}.get(problem.task, "8")
    wrong = {"choice": "\\boxed{A}"}.get(problem.task, "9")
    assert await grade(problem, f"{OPENS}{thought} {wrong}{CLOSES}\n\n{right}") is True
    assert await grade(problem, f"{thought} {right}{CLOSES}\n\n{wrong}") is False
    open_thought = f"{OPENS}{thought} {right}"
    assert await grade(problem, open_thought) is False and answer_of(problem, open_thought) is None


@pytest.mark.parametrize("task", ["math", "code", "choice", "general"])
def test_a_thought_without_an_end_has_no_answer(task: TaskKind) -> None:
    tests = CodeTests(code="assert f() == 1") if task == "code" else None
    problem = Problem.from_text("?", task=task).model_copy(update={"tests": tests})
    assert answer_of(problem, f"{OPENS}```python\ndef f():\n    return 1\n```\n\\boxed{{1}}") is None


def thinking_model(text: str, *, thinks: bool = True, opens: bool | None = None) -> FakeModel:
    model = FakeModel(Script(rules=(Rule(text=text),)))
    model.spec = model.spec.model_copy(update={"thinks": thinks, "opens_thinking": opens})
    return model


def solved(model: FakeModel, **options: int) -> tuple[Solution, str, str]:
    with Tandem("fake", model, strategy="intern-only", **options) as tandem:  # type: ignore[arg-type]
        events = list(tandem.stream("What is 3 + 4 ?"))
    thought = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    answer = "".join(event.text for event in events if isinstance(event, AnswerDelta))
    assert isinstance(events[-1], Solution)
    return events[-1], thought, answer


@pytest.mark.parametrize("text", ["<think> It may be 9 . </think>\n\nIt is 7", "It may be 9 . </think>\n\nIt is 7"])
@pytest.mark.parametrize("opens", [True, None])
def test_events_have_the_thought_apart(text: str, opens: bool | None) -> None:
    solution, thought, answer = solved(thinking_model(text, opens=opens))
    assert (thought.strip(), answer) == ("It may be 9 .", "It is 7")
    assert (solution.thinking.strip(), solution.content, solution.answer) == ("It may be 9 .", "It is 7", "7")
    assert solution.text == text and not solution.truncated


@pytest.mark.parametrize("text", ["<think> It may be 9 or rather 8", "It may be 9 or rather 8 or 10"])
def test_an_answer_that_is_cut_in_its_thought_is_none(text: str) -> None:
    solution, thought, answer = solved(thinking_model(text), intern_max_tokens=5)
    assert solution.truncated and solution.answer is None and answer == "" and solution.content == ""
    assert solution.text.startswith(OPENS) and re.sub(r"\s+", " ", thought).startswith("It may be")


def test_an_answer_that_ends_in_its_thought_counts_as_cut() -> None:
    solution, _, answer = solved(thinking_model("<think> It may be 9"))
    assert solution.truncated and solution.answer is None and answer == ""


def test_what_was_taken_for_a_thought_and_is_the_answer_comes_as_the_answer() -> None:
    solution, thought, answer = solved(thinking_model("It is 7"))  # a thinking model whose server hides the thought
    assert (thought, answer, solution.answer) == ("It is 7", "It is 7", "7")
    solution, thought, answer = solved(thinking_model("It is 7", opens=False))
    assert (thought, answer, solution.answer) == ("", "It is 7", "7")
    solution, thought, answer = solved(thinking_model("It is 7", thinks=False))
    assert (thought, answer, solution.answer) == ("", "It is 7", "7")


@pytest.mark.parametrize("answered", ["intern", "mentor"])
def test_an_insight_that_is_the_beginning_of_a_thought_comes_once(answered: str) -> None:
    mentor = FakeModel(Script(rules=(Rule(text=f"<think> one{' two' * 30} </think> It is 7"),)))
    mentor.spec = mentor.spec.model_copy(update={"insight_mode": "prefix", "thinks": True})
    intern = thinking_model(" so it is </think> 8")
    strategy = "fixed:low=28" if answered == "intern" else "mentor-only"
    with Tandem(mentor, intern, strategy=strategy) as tandem:
        events = list(tandem.stream("What is 3 + 4 ?"))
    shown = "".join(getattr(event, "text", "") for event in events[:-1])
    assert "<" not in shown and shown.split().count("one") == 1
    solution = events[-1]
    assert isinstance(solution, Solution)
    assert solution.content == {"intern": "8", "mentor": "It is 7"}[answered] == shown.strip()[-len(solution.content) :]
