"""Conversations with functions for a model that has no notion of them: all of it in words."""

from __future__ import annotations

from collections.abc import Sequence

from tandem.tools import CLOSES_CALL, OPENS_CALL, ToolUse
from tandem.types import Message


def in_words(messages: Sequence[Message], preamble: str = "") -> tuple[Message, ...]:
    """Return the messages with calls and their replies as text, and `preamble` at the end of the system message.

    A reply becomes a user's message, and one with what the user says next: many templates want the roles in turn.
    """
    written: list[Message] = []
    for message in messages:
        if message.role == "tool":
            said = Message(role="user", content=f"{_REPLY}\n{message.content}\n{_REPLY_ENDS}")
        else:
            said = Message(role=message.role, content=message.text)
        if written and said.role == written[-1].role == "user" and written[-1].content.endswith(_REPLY_ENDS):
            said = Message(role="user", content=f"{written.pop().content}\n{said.content}")
        written.append(said)
    if preamble:
        own = written.pop(0).content if written[0].role == "system" else ""
        written.insert(0, Message(role="system", content=f"{own}\n\n{preamble}" if own else preamble))
    return tuple(written)


def has_tools(messages: Sequence[Message]) -> bool:
    """Whether there are calls or replies among the messages."""
    return any(message.tool_calls or message.role == "tool" for message in messages)


def how_to_call(tools: ToolUse | None) -> str:
    """Return what a model is told that may call functions in its text; empty where it must call none."""
    if tools is None or tools.choice == "none":
        return ""
    rules = ["" if tools.parallel else " Call one function at a time.", _RULES[tools.choice]]
    must = f" You must call {tools.named} now." if tools.named else "".join(rules)
    return _HOW_TO_CALL.format(functions=tools.text) + must


def what_can_be_called(tools: ToolUse | None) -> str:
    """Return what a mentor is told whose notes are for a model that may call functions; empty where it calls none."""
    return "" if tools is None or tools.choice == "none" else f"{_CAN_BE_CALLED}\n{tools.text}"


_REPLY, _REPLY_ENDS = "<tool_response>", "</tool_response>"
_HOW_TO_CALL = (
    "You can call functions. These are their names and parameters, in JSON, one a line:\n{functions}\n\n"
    f'To call a function, write {OPENS_CALL}{{{{"name": "its name", "arguments": {{{{…}}}}}}}}{CLOSES_CALL} with '
    "arguments that fit its parameters, and end your message there: you then get its result between "
    f"{_REPLY} and {_REPLY_ENDS}."
)
_RULES = {
    "auto": " Call a function only where you need it; otherwise answer in words.",
    "required": " You must call a function now.",
}
_CAN_BE_CALLED = (
    "The student can call these functions (in JSON, one a line) and reads their results before going on; you cannot."
)
