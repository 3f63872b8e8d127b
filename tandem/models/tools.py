"""A tool that a model may call, and its textual form: journal, caches and ledger only see text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TEMPLATE = 256  # tokens that a chat template may add to a prompt with a tool
ADVICE = "use --strategy delegate:text"  # where a model takes no tools
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with one required parameter, a string that `meaning` describes."""

    name: str
    description: str
    parameter: str
    meaning: str

    @property
    def function(self) -> dict[str, Any]:
        parameter = {self.parameter: {"type": "string", "description": self.meaning}}
        return {
            "name": self.name,
            "description": self.description,
            "parameters": {"type": "object", "properties": parameter, "required": [self.parameter]},
        }

    @property
    def text(self) -> str:
        """Approximately the text that a model reads for the tool."""
        return json.dumps(self.function)

    @property
    def room(self) -> int:
        """Tokens at most that it adds to a prompt, whatever the tokenizer: none is shorter than a byte."""
        return len(self.text.encode()) + _TEMPLATE


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in a model's text: what stands before it, the function's name, its arguments as the model wrote them."""

    before: str
    name: str
    arguments: str

    def argument(self, tool: Tool) -> str:
        """Return the argument of the tool's parameter; "" for another function or invalid arguments."""
        given = _object(self.arguments)
        value = given.get(tool.parameter) if given is not None and self.name == tool.name else None
        return value if isinstance(value, str) else ""


def write_call(name: str, arguments: str) -> str:
    """Return a call's textual form: arguments that are a JSON object stand in it as one, anything else as a string."""
    given = _object(arguments)
    called = {"name": name, "arguments": arguments if given is None else given}
    return f"{_OPEN}{json.dumps(called, ensure_ascii=False)}{_CLOSE}"


def find_call(text: str) -> ToolCall | None:
    """Return the first call in a text, or None; one that is not well formed has neither name nor arguments."""
    first = at = text.find(_OPEN)
    while at >= 0:
        called = _object(text[at + len(_OPEN) :], whole=False)
        if called is not None and isinstance(name := called.get("name"), str):
            given = called.get("arguments", "")
            return ToolCall(text[:at], name, given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))
        at = text.find(_OPEN, at + 1)
    return ToolCall(text[:first], "", "") if first >= 0 else None


def _object(text: str, *, whole: bool = True) -> Mapping[str, Any] | None:
    """Return the JSON object in a text, or (not `whole`) at its beginning."""
    try:
        value = json.loads(text) if whole else json.JSONDecoder().raw_decode(text.lstrip())[0]
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
