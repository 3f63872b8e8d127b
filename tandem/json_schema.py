"""JSON schemas of strangers: what one may be, and whether a model's text fits it, both within bounds.

A schema and a text can be chosen so that a check takes for ever (references that multiply, regular expressions that
backtrack), so every step of a check is counted and every expression has a time limit.
"""

from __future__ import annotations

import functools
import json
import math
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from tandem.errors import UsageError
from tandem.words import shortened

MOST_CHARACTERS = 100_000  # of a schema as JSON
_MOST_PARTS = 10_000  # objects and lists in it
_DEEPEST = 60  # of them within one another
_MOST_STEPS = 50_000  # keywords applied in one check, about a second
_MOST_SECONDS = 0.1  # for one regular expression on one text
_STEPS_A_SECOND = _MOST_STEPS / 2  # that expressions take up
_LONGEST_PATTERN = 1_000
_LONGEST_WORDS = 160  # of a model or a client, in an error
_MOST_REPEATS = 100_000  # of a pattern's part, by its numbers in braces: some engines write each out
_REFUSED = ("patternProperties", "$dynamicRef", "$recursiveRef")
_SAMPLES: tuple[Any, ...] = ({}, [], "", 0, None, True)


_TIMES = re.compile(r"\{(?:\d*,)?(\d+)")
_ENDLESS = "it takes too long to check"


class _TooMuch(Exception):
    """A check took more steps, or one of its expressions more time, than allowed."""


def check_schema(schema: Mapping[str, Any]) -> str:
    """Return a schema as its text. Raises UsageError for one that is none, or cannot be checked within bounds."""
    text = schema_text(schema)
    need_schema(text)
    _check_parts(schema)
    for sample in _SAMPLES:  # a reference that leads back to itself is found with any value
        if _fault(text, sample) == _ENDLESS:
            raise UsageError("the schema is too complicated to check: do its references lead back to themselves?")
    return text


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return what may be a schema as its text. Raises UsageError for one that is too large, too deep or not JSON."""
    _measure(schema)
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:  # a lone surrogate, or a number that is none
        raise UsageError(f"the schema is not valid JSON: {getattr(error, 'reason', error)}") from None
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"the schema has {len(text):,} characters, {MOST_CHARACTERS:,} are allowed")
    return text


@functools.lru_cache(maxsize=256)  # an agent's functions come with each of its requests
def need_schema(text: str) -> None:
    """Raise UsageError for a text of `schema_text` that is no JSON Schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(json.loads(text))
    except SchemaError as error:
        raise UsageError(f"it is no JSON Schema: at {_place(error.absolute_path)}: {_short(error.message)}") from None


def misfit(schema: str, text: str) -> str | None:
    """Return in words where a text does not fit a schema (without one: is no JSON object); None where it does."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {_short(str(error))}"
    if not schema:
        return None if isinstance(value, dict) else f"it is no JSON object, but {_short(json.dumps(value))}"
    return _fault(schema, value)


def _measure(schema: object) -> None:
    """Raise UsageError for a schema of too many parts or too deep: without recursion, which it could exhaust."""
    parts, left = 0, [(schema, 1)]
    while left:
        part, depth = left.pop()
        inner = part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()
        parts += 1
        if depth > _DEEPEST:
            raise UsageError(f"the schema is nested deeper than {_DEEPEST} levels")
        if parts > _MOST_PARTS:
            raise UsageError(f"the schema has more than {_MOST_PARTS:,} parts")
        left += [(each, depth + 1) for each in inner if isinstance(each, Mapping | list)]


def _check_parts(schema: Mapping[str, Any]) -> None:
    """Raise UsageError for a reference that leads elsewhere or nowhere, and for what cannot be applied in time."""
    import regex

    parts = list(_subschemas(schema))
    places = {id(part) for part in parts}
    renamed = any("$id" in part for part in parts)  # then a pointer is into something else
    for part in parts:
        for name in _REFUSED:
            if name in part:
                raise UsageError(f"'{name}' is not supported in a schema")
        if (named := part.get("$ref")) is not None and (renamed or not _leads(schema, named, places)):
            raise UsageError(f"'$ref' {_short(str(named))} leads nowhere in this schema")
        if (pattern := part.get("pattern")) is not None:
            if len(pattern) > _LONGEST_PATTERN:
                raise UsageError(f"a 'pattern' may have {_LONGEST_PATTERN:,} characters, not {len(pattern):,}")
            if math.prod(int(times) or 1 for times in _TIMES.findall(pattern)) > _MOST_REPEATS:
                raise UsageError(f"'pattern' {_short(pattern)} repeats its parts too often")
            try:
                regex.compile(pattern)
            except (regex.error, RecursionError) as error:
                raise UsageError(f"'pattern' {_short(pattern)} is no regular expression: {error}") from None


_ONE = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_ONE_MORE = ("unevaluatedItems", "unevaluatedProperties")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "dependentSchemas", "properties")


def _subschemas(schema: object) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and those within it: what stands in `enum`, `const`, `default` or `examples` is none."""
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            yield part
            left += [part[name] for name in (*_ONE, *_ONE_MORE) if name in part]
            left += [each for name in _LISTED for each in part.get(name) or ()]
            left += [each for name in _NAMED for each in (part.get(name) or {}).values()]


def _leads(schema: Mapping[str, Any], reference: str, places: Container[int]) -> bool:
    """Whether a reference is a pointer to a subschema of the same schema; `places` are the ids of those."""
    if not (reference == "#" or reference.startswith("#/")):
        return False
    found = follow(schema, reference)
    return isinstance(found, bool) or id(found) in places


def follow(schema: Mapping[str, Any], reference: str) -> Any:
    """Return what a pointer like ``#/$defs/name`` leads to; None where that is nothing."""
    from urllib.parse import unquote

    found: Any = schema
    for name in unquote(reference[1:]).split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def _fault(schema: str, value: object) -> str | None:
    """Return where and why a value does not fit a schema; None where it does."""
    from jsonschema.exceptions import ValidationError
    from referencing.exceptions import Unresolvable

    left = _STEPS.set([_MOST_STEPS])
    try:
        error: ValidationError | None = next(_validator(schema).iter_errors(value), None)
    except (_TooMuch, RecursionError):
        return _ENDLESS
    except OverflowError:  # of a division by a fraction
        return "a number in it, or in its schema, is too large to be checked"
    except Unresolvable as missing:
        return f"a reference of its schema leads nowhere: {_short(str(missing))}"
    finally:
        _STEPS.reset(left)
    return None if error is None else f"at {_place(error.absolute_path)}: {_short(error.message)}"


_STEPS: ContextVar[list[int]] = ContextVar("the steps that a check has left")


@functools.lru_cache(64)
def _validator(schema: str) -> Any:
    """Return a validator whose every keyword counts as a step, and which fetches nothing."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend
    from referencing import Registry

    usual = {**Draft202012Validator.VALIDATORS, "pattern": _pattern, "uniqueItems": _unique}
    counting = extend(Draft202012Validator, {name: _counted(function) for name, function in usual.items()})
    return counting(json.loads(schema), registry=Registry())


def _counted(function: Callable[..., Iterable[Any] | None]) -> Callable[..., Iterator[Any]]:
    def apply(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left = _STEPS.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooMuch
        yield from function(validator, value, instance, schema) or ()

    return apply


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    import regex
    from jsonschema.exceptions import ValidationError

    began = time.monotonic()
    try:
        fits = not isinstance(instance, str) or regex.search(pattern, instance, timeout=_MOST_SECONDS)
    except TimeoutError:
        raise _TooMuch from None
    _STEPS.get()[0] -= int((time.monotonic() - began) * _STEPS_A_SECOND)
    if not fits:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """Check that no two items are equal, in one pass: the library compares each with each where they have no order."""
    from jsonschema.exceptions import ValidationError

    items = {json.dumps(item, sort_keys=True) for item in instance} if isinstance(instance, list) and wanted else ()
    if items and len(items) < len(instance):
        yield ValidationError("two of its items are equal")


def _place(path: Iterable[str | int]) -> str:
    """Return a place in a JSON value as ``items[0].name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return _short(text.removeprefix(".")) or "its top"


def _short(text: str) -> str:
    return shortened(text, _LONGEST_WORDS)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
