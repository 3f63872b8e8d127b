"""Calls in a text: what is written is read again, at once and in any pieces, and no tag reaches whoever reads."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tandem.tools import CLOSES_CALL, OPENS_CALL, CallPiece, CallSplitter, find_call, split_calls, write_call

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from([CLOSES_CALL, OPENS_CALL, '"}\\']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
WORDS = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=12)
BROKEN = st.sampled_from(['{"a": ', "", "null", "[1]", "{'a': 1}", '{"a": 1}}', CLOSES_CALL, '{"x": "</tool', "\ud800"])


def pieces(text: str, cuts: list[int], *, parallel: bool = True) -> list[str | CallPiece]:
    splitter, found = CallSplitter(parallel=parallel), list[str | CallPiece]()
    for start, end in pairwise(sorted({*cuts, 0, len(text)})):
        found += splitter.feed(text[start:end])
    return [*found, *splitter.close()]


def together(found: list[str | CallPiece]) -> tuple[str, list[tuple[str, str]]]:
    """Put a stream together as a client does: by index, the name in the first piece only."""
    calls: dict[int, tuple[str, str]] = {}
    for piece in found:
        if isinstance(piece, CallPiece):
            name, arguments = calls.get(piece.index, ("", ""))
            assert bool(piece.name) == (piece.index not in calls)
            calls[piece.index] = name or piece.name, arguments + piece.arguments
    assert list(calls) == list(range(len(calls)))
    return "".join(piece for piece in found if isinstance(piece, str)), list(calls.values())


@given(WORDS, st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3), st.lists(st.integers(0, 200), max_size=9), st.data())
@example("", [("f", {"a": f"{CLOSES_CALL}{OPENS_CALL}"})], [3, 11, 12, 30, 36], None)
def test_calls_read_as_they_were_written_in_any_pieces(
    before: str, calls: list[tuple[str, dict[str, object]]], cuts: list[int], data: st.DataObject | None
) -> None:
    indent = data.draw(st.sampled_from([None, 1])) if data else None
    written = [write_call(name, json.dumps(arguments, indent=indent)) for name, arguments in calls]
    between = data.draw(st.sampled_from(["", "\n", " \n "])) if data else ""
    text = before + between + between.join(written)
    words, found = together(pieces(text, [cut % (len(text) + 1) for cut in cuts]))
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert words == (before.rstrip() if calls else text)
    assert (words, found) == split_calls(text)
    first = find_call(text)
    assert (first is None) == (not calls) and (first is None or first.name == calls[0][0])


@given(NAMES, BROKEN, st.lists(st.integers(0, 60), max_size=5))
def test_arguments_that_are_no_json_object_are_passed_through(name: str, arguments: str, cuts: list[int]) -> None:
    text = write_call(name, arguments)
    assert together(pieces(text, [cut % (len(text) + 1) for cut in cuts])) == ("", [(name, arguments)])


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_a_text_without_a_call_is_the_same_text(text: str, cuts: list[int]) -> None:
    assert together(pieces(text, [cut % (len(text) + 1) for cut in cuts])) == (text, [])


FRAGMENTS = st.sampled_from(
    [
        OPENS_CALL,
        CLOSES_CALL,
        '{"name": "f", "arguments": ',
        "{",
        "}",
        '"',
        ", ",
        '"a": 1',
        "\\",
        "<",
        "\n",
        "call>",
    ]
)


@given(st.lists(FRAGMENTS, max_size=14).map("".join), st.lists(st.integers(0, 200), max_size=9))
def test_whatever_a_model_writes_reads_the_same_in_any_pieces_and_opens_no_tag(text: str, cuts: list[int]) -> None:
    words, calls = split_calls(text)
    assert together(pieces(text, [cut % (len(text) + 1) for cut in cuts])) == (words, calls)
    assert OPENS_CALL not in words


def test_arguments_come_piece_by_piece() -> None:
    splitter = CallSplitter()
    fed = [
        "So",
        f" {OPENS_CALL}",
        '\n{"name": "f", ',
        '"arguments": {"city',
        '": "Par',
        'is"}',
        "}\n",
        CLOSES_CALL,
        "\n!",
    ]
    came = [list(splitter.feed(piece)) for piece in fed]
    assert came == [
        *(["So"], [], [], [CallPiece(0, "f", ""), CallPiece(0, "", '{"city')], [CallPiece(0, "", '": "Par')]),
        *([CallPiece(0, "", 'is"}')], [], [], ["!"]),
    ]
    assert not list(splitter.close()) and splitter.calls == 1


@pytest.mark.parametrize(
    ("text", "words", "calls"),
    [
        ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", [("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', "", [("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "")]),
        ('<tool_call>{"name": "f", "arguments": {"a": [1}</tool_call> So.', "So.", [("f", '{"a": [1}')]),
        ('<tool_call>{"name": "f", "arguments": {"a": "x', "", [("f", '{"a": "x')]),
        ('<tool_call>{"name": "f", "arguments": {}}', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": {}}\n\nDone.', "Done.", [("f", "{}")]),
        ("One.\n<tool_call>f(x)</tool_call>", "One.\nf(x)", []),
        ('<tool_call>{"nam', "", []),
        ("<tool_call></tool_call>", "", []),
        ("I write <tool_call> now.", "I write now.", []),
        (
            'I write <tool_call> now. <tool_call>{"name": "f", "arguments": {}}</tool_call>',
            "I write now.",
            [("f", "{}")],
        ),
        ("<tool_call><tool_call></tool_call></tool_call>", "</tool_call>", []),
        ("a <tool_cal", "a <tool_cal", []),
    ],
)
def test_what_models_write_in_place_of_a_call(text: str, words: str, calls: list[tuple[str, str]]) -> None:
    assert split_calls(text) == (words, calls)


BARE = '{"name": "f", "arguments": {"a": "}"}}'


@pytest.mark.parametrize(
    ("text", "words", "calls"),
    [
        (BARE, "", [("f", '{"a": "}"}')]),
        (f" \n{BARE}\n{BARE}", "", [("f", '{"a": "}"}')] * 2),
        (f"{BARE}\nSo.", "So.", [("f", '{"a": "}"}')]),
        (f"So: {BARE}", f"So: {BARE}", []),
        ('{"name": "g", "arguments": {}}', '{"name": "g", "arguments": {}}', []),
        ('{"name": "f"}', '{"name": "f"}', []),
        ('{"answer": 1}', '{"answer": 1}', []),
        (f"{write_call('f', '{}')}{BARE}", "", [("f", "{}"), ("f", '{"a": "}"}')]),
        ("  Hello.", "  Hello.", []),
        ("", "", []),
    ],
)
def test_a_call_without_its_tag_is_one_of_a_known_function(text: str, words: str, calls: list[tuple[str, str]]) -> None:
    assert split_calls(text, names=["f"]) == (words, calls)
    splitter = CallSplitter(names=["f"])
    assert together([*(piece for letter in text for piece in splitter.feed(letter)), *splitter.close()]) == (
        words,
        calls,
    )
    assert split_calls(BARE) == (BARE, [])


def test_a_text_that_cannot_be_a_call_is_not_held_back() -> None:
    splitter = CallSplitter(names=["f"])
    assert list(splitter.feed('{"a')) == ['{"a'] and list(CallSplitter(names=["f"]).feed("Hi")) == ["Hi"]


@given(st.lists(FRAGMENTS, max_size=14).map("".join), st.lists(st.integers(0, 200), max_size=9))
def test_with_functions_too_pieces_make_no_difference(text: str, cuts: list[int]) -> None:
    splitter, found = CallSplitter(names=["f"]), list[str | CallPiece]()
    for start, end in pairwise(sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})):
        found += splitter.feed(text[start:end])
    assert together([*found, *splitter.close()]) == split_calls(text, names=["f"])


def test_only_the_first_call_where_several_are_not_wanted() -> None:
    text = f"Two: {write_call('f', '{}')}{write_call('g', '{}')} end"
    assert split_calls(text, parallel=False) == ("Two:end", [("f", "{}")])
    assert together(pieces(text, list(range(len(text))), parallel=False)) == ("Two:end", [("f", "{}")])
