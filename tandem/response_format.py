"""The form that an answer is asked for in: any JSON object, or JSON that fits a schema (OpenAI's `response_format`)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """JSON that fits `schema`, a JSON Schema as its text; without one, any JSON object."""

    schema: str = ""
    name: str = "answer"
    description: str = ""
    strict: bool | None = None

    @property
    def openai(self) -> dict[str, Any]:
        """The value of `response_format` in OpenAI's API, which vLLM takes too."""
        if not self.schema:
            return {"type": "json_object"}
        named: dict[str, Any] = {"name": self.name, "schema": json.loads(self.schema)}
        if self.description:
            named["description"] = self.description
        return {"type": "json_schema", "json_schema": named if self.strict is None else named | {"strict": self.strict}}

    @property
    def words(self) -> str:
        """What a model is told that only reads of it."""
        if not self.schema:
            return "The answer must be one JSON object and nothing else: no code fence, no word before or behind it."
        about = f" ({self.description})" if self.description else ""
        return (
            f"The answer{about} must be JSON that fits this JSON Schema, and nothing else: no code fence, no word "
            f"before or behind it.\n{self.schema}"
        )


class JsonText:
    """The JSON value in a model's text as it arrives, for any chunking: no code fence, no words around it.

    An object or a list is given out piece by piece. Anything else is held back: only its end shows what it is.
    """

    def __init__(self, *, begun: str = "", is_object: bool = False) -> None:
        """`begun`: its beginning, from elsewhere; its JSON is kept. `is_object`: words before a brace are none."""
        self._is_object = is_object
        self._held = ""
        self._depth = 0
        self._state: Literal["before", "inside", "behind"] = "before"
        self._quoted = self._escaped = False
        self._begun = _FENCE.sub("", begun, count=1)
        self.whole = ""  # the value so far, its beginning among it
        self.feed(begun)

    def feed(self, text: str) -> str:
        """Return what the text adds to the value."""
        if self._state == "before":
            self._held += text
            head = _FENCE.sub("", self._held, count=1)
            found = head.find("{") if self._is_object else 0 if head[:1] in ("{", "[") else -1
            if found < 0 or not head:
                return ""
            self._state, self._held, text = "inside", "", head[found:]
        piece = self._inside(text) if self._state == "inside" else ""
        self.whole += piece
        return piece

    def close(self) -> str:
        """Return what was held back: a value that is neither object nor list, or words without any."""
        held, self._held = self._held, ""
        rest = _FENCE.sub("", held, count=1).strip().removesuffix("```").rstrip()
        self.whole += rest
        return rest.removeprefix(self._begun)

    def _inside(self, text: str) -> str:
        at = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        while mark := _MARK.search(text, at):
            found, at = mark[0], mark.end()
            if found[0] == "\\":
                self._escaped = len(found) == 1
            elif found == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if found in "{[" else -1
                if self._depth == 0:
                    self._state = "behind"
                    return text[:at]
        return text


_FENCE = re.compile(r"^\s*(?:```\w*[ \t]*\n\s*)?")
_MARK = re.compile(r'\\(?s:.)?|["{}\[\]]')
