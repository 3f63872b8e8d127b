"""Schemas of strangers: what is taken, what is refused at the door, and checks that end whatever they are given."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.errors import UsageError
from tandem.json_schema import check_schema, misfit
from tandem.models.minimal_json import smallest
from tandem.response_format import JsonText

DOUBLING = {f"a{k}": {"allOf": [{"$ref": f"#/$defs/a{k + 1}"}] * 2} for k in range(40)} | {"a40": {"type": "integer"}}


def nested(levels: int) -> dict[str, Any]:
    return {"properties": {"a": nested(levels - 1)}} if levels else {}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"type": "text"}, "no JSON Schema: at type"),
    ({"properties": {"a": {"type": 7}}}, "at properties.a.type"),
    ({"properties": []}, "at properties"),
    ({"required": "a"}, "at required"),
    ({"$ref": "#"}, "too complicated"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "too complicated"),
    ({"$defs": DOUBLING, "$ref": "#/$defs/a0"}, "too complicated"),
    ({"items": {"$ref": "#/$defs/gone"}}, "leads nowhere"),
    ({"items": {"$ref": "https://example.org/schema.json"}}, "leads nowhere"),
    ({"items": {"$ref": "file:///etc/passwd"}}, "leads nowhere"),
    ({"$id": "https://example.org/", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {}}}, "leads nowhere"),
    ({"const": {"a": 1}, "items": {"$ref": "#/const/a"}}, "leads nowhere"),
    ({"$ref": "#nope"}, "leads nowhere"),
    ({"items": {"$id": "https://example.org/", "$ref": "#/$defs/a"}, "$defs": {"a": {}}}, "leads nowhere"),
    ({"pattern": "("}, "regex"),
    ({"pattern": "a" * 1001}, "characters"),
    ({"pattern": "(((a{1000}){1000}){1000}){1000}"}, "repeats"),
    ({"patternProperties": {"^a": {}}}, "'patternProperties' is not supported"),
    ({"items": {"$dynamicRef": "#a"}}, "dynamicRef' is not supported"),
    (nested(100), "nested deeper"),
    ({"enum": [[]] * 10_001}, "more than 10,000 parts"),
    ({"description": "x" * 100_000}, "characters"),
    ({"properties": {f"p{k}": {} for k in range(10_001)}}, "more than 10,000 parts"),
]


@pytest.mark.parametrize(("schema", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_schema_or_cannot_be_checked_in_time_is_refused(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_schema(schema)


TAKEN: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"$ref": {"type": "string"}, "pattern": {"type": "integer"}}},
    {"enum": [{"$ref": "elsewhere"}]},
    {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"},
    {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a/b": {}}, "$ref": "#/definitions/a~1b"},
    {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?$"},
    {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    {"type": "string", "pattern": "(a|aa)+$"},
]


@pytest.mark.parametrize("schema", TAKEN, ids=str)
def test_what_is_a_schema_is_taken(schema: dict[str, Any]) -> None:
    assert json.loads(check_schema(schema)) == schema


@pytest.mark.parametrize(
    ("schema", "text", "words"),
    [
        ({}, "", "no JSON"),
        ({}, "{} and more", "no JSON"),
        ({}, '{"a": NaN}', "NaN"),
        ({}, "[" * 100_000, "no JSON"),
        ({"type": "object"}, "[]", "at its top: .* is not of type 'object'"),
        ({"properties": {"a": {"items": {"type": "integer"}}}}, '{"a": [1, "x"]}', r"at a\[1\]: 'x' is not of type"),
        ({"required": ["b"]}, '{"a": 1}', "'b' is a required property"),
        ({"items": {}, "uniqueItems": True}, '[{"a": 1, "b": 2}, {"b": 2, "a": 1}]', "equal"),
        ({"pattern": "^a+$"}, '"b"', "does not match"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(schema: dict[str, Any], text: str, words: str) -> None:
    found = misfit(check_schema(schema), text)
    assert found is not None
    assert re.search(words, found), found


@pytest.mark.slow
def test_many_slow_patterns_share_one_limit() -> None:
    schema = {"items": {"pattern": "^((a|aa|a)+$|.*)"}}
    texts = [f"{'a' * 15}b{number}" for number in range(1_000)]
    assert misfit(json.dumps(schema), json.dumps(texts)) == "it takes too long to check"
    assert misfit(json.dumps(schema), json.dumps(texts[:2])) is None


def test_a_number_that_is_too_large_to_divide_is_no_fault_of_ours() -> None:
    assert "too large" in (misfit('{"multipleOf": 0.5}', str(10**400)) or "")


def test_without_a_schema_any_object_fits_and_nothing_else() -> None:
    assert misfit("", '{"a": [1]}') is None
    assert "no JSON object" in (misfit("", "[1]") or "")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"pattern": "(a|aa)+$"}, json.dumps("a" * 60 + "b")),
        ({"allOf": [{"properties": {"a": {"$ref": "#"}}}] * 2}, '{"a":' * 40 + "{}" + "}" * 40),
        ({"properties": {"a": {"$ref": "#"}}}, '{"a":' * 400 + "{}" + "}" * 400),
    ],
)
def test_a_check_that_would_take_for_ever_ends(schema: dict[str, Any], text: str) -> None:
    assert misfit(check_schema(schema), text) == "it takes too long to check"


LEAVES = st.sampled_from(
    [
        {"type": "string", "minLength": 2, "maxLength": 9},
        {"type": "string", "format": "date"},
        {"type": "integer", "minimum": 3},
        {"type": "integer", "exclusiveMaximum": -2, "multipleOf": 5},
        {"type": "number", "minimum": 0.25, "maximum": 0.5},
        {"type": ["null", "boolean"]},
        {"enum": ["red", 7]},
        {"const": None},
        {"$ref": "#/$defs/leaf"},
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    ]
)


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    named = st.dictionaries(st.sampled_from("abcd"), inner, min_size=1)
    objects = named.map(lambda its: {"type": "object", "properties": its, "required": list(its)})
    lists = st.builds(lambda its, least: {"type": "array", "items": its, "minItems": least}, inner, st.integers(0, 3))
    choices = st.lists(inner, min_size=1, max_size=3).map(lambda its: {"anyOf": its})
    return objects | lists | choices | objects.map(lambda its: {"allOf": [its]})


SCHEMAS = st.recursive(LEAVES, containers, max_leaves=8)


@given(SCHEMAS)
def test_the_smallest_value_fits_its_schema(schema: dict[str, Any]) -> None:
    whole = {**schema, "$defs": {"leaf": {"type": "object", "required": ["deep"], "properties": {"deep": {}}}}}
    assert misfit(check_schema(whole), json.dumps(smallest(whole))) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def fed(text: str, cuts: list[int], *, is_object: bool, begun: str = "") -> str:
    reader, parts = JsonText(begun=begun, is_object=is_object), []
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        parts.append(reader.feed(text[start:end]))
    parts.append(reader.close())
    assert reader.whole.endswith("".join(parts)) or begun
    return "".join(parts)


@given(VALUES, st.sampled_from(["{}", "```json\n{}\n```", "\n```\n{}\n```\n", " {}\n"]), st.lists(st.integers(0, 999)))
def test_json_comes_out_of_its_fence_for_any_chunking(value: Any, around: str, cuts: list[int]) -> None:
    text = around.replace("{}", json.dumps(value))
    assert json.loads(fed(text, cuts, is_object=False)) == value


@given(st.dictionaries(st.text(), VALUES), st.lists(st.integers(0, 999)))
def test_of_an_object_the_words_around_it_are_left_out(value: dict[str, Any], cuts: list[int]) -> None:
    text = f"Here it is:\n```json\n{json.dumps(value, ensure_ascii=False)}\n```\nI hope [that] it {{helps}}."
    assert json.loads(fed(text, cuts, is_object=True)) == value


def test_words_without_any_json_are_given_as_they_are() -> None:
    assert fed("I cannot do that.", [3], is_object=True) == "I cannot do that."


@given(VALUES, st.integers(0, 99), st.lists(st.integers(0, 999)))
def test_behind_a_given_beginning_comes_the_rest_alone(value: Any, at: int, cuts: list[int]) -> None:
    text = json.dumps(value)
    begun = text[: at % (len(text) + 1)]
    reader = JsonText(begun=begun)
    rest = "".join([*(reader.feed(character) for character in text[len(begun) :]), reader.close()])
    assert reader.whole == text and rest == text[len(begun) :].rstrip()
