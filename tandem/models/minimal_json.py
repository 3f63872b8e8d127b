"""A small JSON value that fits a schema: what the scriptable model writes, so that clients need no weights.

Not every schema has one that is found here: what contradicts itself, or needs a regular expression to be inverted, does
not. Whoever reads the answer checks it, as with any model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tandem.json_schema import follow

_DEEPEST = 12  # references within one another, before what is optional is left out and the first choice is not taken
_FORMATS = {
    "date": "2020-01-01",
    "date-time": "2020-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "a@example.org",
    "hostname": "example.org",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")


def smallest(schema: Mapping[str, Any]) -> Any:
    """Return a value that fits a schema, as far as one is found."""
    return _value(schema, schema, 0)


def _value(part: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(part, Mapping):
        return {}
    part = _merged(part, root, depth)
    if "const" in part or part.get("enum"):
        return part["const"] if "const" in part else part["enum"][0]
    choices = next((name for name in ("anyOf", "oneOf") if part.get(name)), None)
    if choices:
        # Deep within references the last choice, which mostly is the one that ends them.
        usual = part[choices][-1 if depth > _DEEPEST else 0]
        chosen = next((one for one in part[choices] if one == {"type": "null"}), usual)
        rest = {key: value for key, value in part.items() if key != choices}
        return _value({"allOf": [rest, chosen]}, root, depth + 1)
    named = part.get("type") or next((kind for kind, keys in _IMPLIED.items() if keys & part.keys()), "object")
    kind = named if isinstance(named, str) else next((each for each in _TYPES if each in named), "null")
    return _MAKERS[kind](part, root, depth)


_IMPLIED = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


def _merged(part: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return a schema with its reference and the parts of `allOf` in it, as far as they can be put into one."""
    found = {key: value for key, value in part.items() if key not in ("$ref", "allOf")}
    others = [follow(root, part["$ref"])] if "$ref" in part else []
    for other in [*others, *(part.get("allOf") or ())]:
        if isinstance(other, Mapping) and depth <= 2 * _DEEPEST:
            its = _merged(other, root, depth + 1)
            both = {**its.get("properties", {}), **found.get("properties", {})}
            needed = [*found.get("required", ()), *its.get("required", ())]
            found = its | found | ({"properties": both} if both else {}) | ({"required": needed} if needed else {})
    return found


def _object(part: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = part.get("properties", {})
    wanted = list(dict.fromkeys(part.get("required", ())))
    wanted += [name for name in properties if name not in wanted][: max(part.get("minProperties", 0) - len(wanted), 0)]
    others = part.get("additionalProperties", {})
    found = {name: _value(properties.get(name, others), root, depth + 1) for name in wanted if depth <= 2 * _DEEPEST}
    while len(found) < part.get("minProperties", 0):
        found[f"key{len(found)}"] = _value(others, root, depth + 1)
    return found


def _array(part: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> list[Any]:
    first, items = part.get("prefixItems", []), part.get("items", {})
    if depth > 2 * _DEEPEST:
        return []
    size = min(part.get("minItems", 1 if "contains" in part else 0), 1000)
    parts = [first[k] if k < len(first) else part.get("contains", items) for k in range(size)]
    return [_value(each, root, depth + 1) for each in parts]


def _string(part: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(part.get("format")), "text")[: part.get("maxLength")]
    return text.ljust(part.get("minLength", 0), "t")


def _number(part: Mapping[str, Any], *, whole: bool) -> float:
    """Return the smallest multiple that is large enough, or zero where nothing says otherwise."""
    step = part.get("multipleOf") or 1
    least = max(part.get("minimum", -math.inf), part.get("exclusiveMinimum", -math.inf))
    most = min(part.get("maximum", math.inf), part.get("exclusiveMaximum", math.inf))
    if least <= 0 <= most and 0 not in (part.get("exclusiveMinimum"), part.get("exclusiveMaximum")):
        return 0
    found: float = math.ceil(least / step) * step if least > -math.inf else math.floor(most / step) * step
    if found == part.get("exclusiveMinimum"):
        found += step
    if found == part.get("exclusiveMaximum"):
        found -= step
    if not whole and most > -math.inf and least > -math.inf and not least <= found <= most:
        found = (least + most) / 2
    return found


_MAKERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], int], Any]] = {
    "object": _object,
    "array": _array,
    "string": lambda part, root, depth: _string(part),
    "integer": lambda part, root, depth: _number(part, whole=True),
    "number": lambda part, root, depth: _number(part, whole=False),
    "boolean": lambda part, root, depth: True,
    "null": lambda part, root, depth: None,
}
