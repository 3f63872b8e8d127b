"""The form that an answer is asked for in: any JSON object, or JSON that fits a schema (OpenAI's `response_format`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


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
