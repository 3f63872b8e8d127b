"""The section parser survives whatever a mentor writes, in whatever chunks it arrives."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.insight import (
    Insight,
    SectionParser,
    answer_messages,
    intern_view,
    mentor_messages,
    opening,
    split_sections,
    trim,
)
from tandem.spec import Continuation
from tandem.types import Message, Problem

HEADERS = ["Goal: ", "**Planning:** ", "## Retrieval\n", "4. Action - ", "goal\n", "**Plan**\n", "Retrieval (facts): "]
LINES = st.sampled_from([*HEADERS, "x = 3\n", "\n", "Actions speak louder: no\n", "goalkeeper\n", "a long line " * 9])


def chunks(text: str, cuts: list[int]) -> list[str]:
    marks = sorted({min(c, len(text)) for c in cuts} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(marks)]


@given(st.lists(LINES, max_size=12).map("".join), st.lists(st.integers(0, 400), max_size=8))
def test_sections_do_not_depend_on_the_chunks(text: str, cuts: list[int]) -> None:
    parser, found = SectionParser(), {}
    for chunk in chunks(text, cuts):
        for section, piece in parser.feed(chunk):
            found[section] = found.get(section, "") + piece
    for section, piece in parser.close():
        found[section] = found.get(section, "") + piece
    whole = split_sections(text)
    assert {k: v.strip() for k, v in found.items() if k and v.strip()} == whole


@given(st.text(max_size=300))
def test_no_text_is_lost_but_headers(text: str) -> None:
    parser = SectionParser()
    pieces = [piece for _, piece in [*parser.feed(text), *parser.close()]]
    rest = iter(text)
    assert all(character in rest for piece in pieces for character in piece)  # a subsequence, in order


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Goal: a\nPlanning: b\nRetrieval: c", {"goal": "a", "planning": "b", "retrieval": "c"}),
        ("**Action:** d\n**Goal**: a", {"goal": "a", "action": "d"}),
        ("### 1. Goal\na\n### 2. Planning\nb", {"goal": "a", "planning": "b"}),
        ("- **Goal:** a\n- **Retrieval:** c", {"goal": "a", "retrieval": "c"}),
        ("Goal: a\nGoal: more", {"goal": "a\nmore"}),
        ("Goal: a\nPlann", {"goal": "a\nPlann"}),
        ("no headers at all", {}),
        ("Goal-oriented work is not a header\nAction: yes", {"action": "yes"}),
        ("", {}),
    ],
)
def test_sections_missing_reordered_dressed_or_cut(text: str, expected: dict[str, str]) -> None:
    assert split_sections(text) == expected


@given(st.lists(st.sampled_from(["ab ", "c", "\n", "def "]), max_size=30), st.integers(0, 40), st.integers(0, 40))
def test_levels_are_prefixes_of_one_another(tokens: list[str], a: int, b: int) -> None:
    insight = Insight()
    for token in tokens:
        insight.feed(token, 1)
    low, high = sorted((a, b))
    (short, n), (long, m) = insight.cut(low), insight.cut(high)
    assert long.startswith(short)
    assert n == min(low, len(tokens)) and m == min(high, len(tokens))


def test_several_tokens_at_once_are_split_at_the_boundary() -> None:
    insight = Insight()
    insight.feed_exact("one two three", 3, lambda text, n: text[: text.index(" ") + 1] if " " in text else text)
    assert insight.cut(2) == ("one two ", 2)
    assert insight.text == "one two three" and insight.tokens == 3


def test_exhausted_only_when_the_end_is_known_to_lie_below_the_budget() -> None:
    insight = Insight()
    insight.feed("a", 5)
    assert not insight.exhausted(10)
    insight.finished = True
    assert insight.exhausted(10)
    assert not insight.exhausted(5)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Goal: a\n**Retr", "Goal: a"),
        ("Goal: a\nAction:", "Goal: a"),
        ("Goal: a\nx = 3", "Goal: a\nx = 3"),
        ("Goal: a \n\n", "Goal: a"),
    ],
)
def test_trim_drops_only_what_dangles(text: str, kept: str) -> None:
    assert trim(text) == kept


def test_the_levels_share_their_prompt_up_to_the_insight() -> None:
    problem = Problem(id="p", task="math", messages=(Message(role="user", content="What is 1+1?"),))
    bare, _ = intern_view(problem, "")
    low, _ = intern_view(problem, "Goal: add")
    high, _ = intern_view(problem, "Goal: add\nPlanning: one step")
    assert bare == answer_messages(problem)
    assert low[-1].content.startswith(bare[-1].content)
    assert high[-1].content.startswith(low[-1].content)


def test_prefix_mode_continues_the_mentors_own_answer() -> None:
    problem = Problem.from_text("What is 1+1?")
    assert mentor_messages(problem, "prefix") == answer_messages(problem)
    assert intern_view(problem, "First, ", "prefix") == (answer_messages(problem), "First, ")


def test_the_first_header_is_given_only_to_mentors_that_can_go_on_from_it() -> None:
    assert opening("gpra", Continuation.NATIVE) == "Goal:"
    assert opening("gpra", Continuation.SECTIONS) == ""
    assert opening("prefix", Continuation.NATIVE) == ""


def test_earlier_turns_and_system_prompt_stay() -> None:
    turns = (
        Message(role="system", content="s"),
        Message(role="user", content="q1"),
        Message(role="assistant", content="a1"),
        Message(role="user", content="q2"),
    )
    problem = Problem(id="p", messages=turns)
    for messages in (mentor_messages(problem), answer_messages(problem), intern_view(problem, "Goal: x")[0]):
        assert messages[:3] == turns[:3] and "q2" in messages[3].content
