"""The fake model's calls: the first function once for each question, with arguments that its parameters ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tandem.models.minimal_json import smallest
from tandem.tools import ToolUse, write_call
from tandem.types import Message


def fake_call(tools: ToolUse, messages: Sequence[Message]) -> str | None:
    """Return a call where one is due; a text among its arguments is the question's last word."""
    if tools.choice == "none" or (tools.choice == "auto" and messages[-1].role != "user"):
        return None
    name = tools.named or tools.names[0]
    parameters = next(one for one in tools.functions if one["name"] == name).get("parameters") or {}
    asked = next((_paragraph(message.content) for message in reversed(messages) if message.role == "user"), "")
    word = (re.findall(r"\w+", asked) or ["x"])[-1]
    value = smallest(parameters)
    arguments = {key: word if one == "text" else one for key, one in value.items()} if isinstance(value, dict) else {}
    return write_call(name, json.dumps(arguments, ensure_ascii=False))


def fake_reply(messages: Sequence[Message]) -> str:
    """Return what is answered behind a function's reply."""
    return f"The function replied: {_paragraph(messages[-1].content)}"


def _paragraph(text: str) -> str:
    """Return a text's beginning: a mentor's notes may stand behind it."""
    return text.partition("\n\n")[0]
