"""The two protocols by which a mentor calls the intern: a native tool, or tags in the text that it writes.

In text, the mentor writes ``<ask>question</ask>`` and is stopped there; a line ``ASK: question`` will do too. With
native tools it calls the function ``ask`` with a question, and the reply is the tool's. The first call in a message
counts, and what stands behind it is dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from tandem.tools import FunctionCall, ToolCall, ToolUse, find_call
from tandem.types import Message


@dataclass(frozen=True, slots=True)
class Question:
    """A call in a mentor's message: what stands before it, and the question's text ("" where there is none).

    `message` is the mentor's message up to its call, with it where it is text; `arguments` are those of a native call.
    """

    before: str
    text: str
    message: str
    arguments: str = ""

    def said(self, id: str) -> Message:
        """Return the mentor's message as it stands in the conversation."""
        calls = (FunctionCall(id=id, name=_FUNCTION, arguments=self.arguments),) if self.arguments else ()
        return Message(role="assistant", content=self.message, tool_calls=calls)

    def replied(self, id: str, reply: str) -> Message:
        """Return the message that the mentor reads next."""
        if not self.arguments:
            return Message(role="user", content=reply)
        return Message(role="tool", content=reply, tool_call_id=id)


@dataclass(frozen=True, slots=True)
class ToolProtocol:
    """How a mentor calls its assistant: `instructions` begin the first prompt, `find` reads its calls.

    `reply` stands before each reply; `nothing` answers a call without a question.
    """

    name: str
    find: Callable[[str], Question | None]
    instructions: str
    reply: str
    nothing: str
    stop: tuple[str, ...] = ()
    tools: ToolUse | None = None

    @property
    def room(self) -> int:
        """Tokens at most of the tool in each prompt."""
        return self.tools.room if self.tools else 0


def find_ask(text: str) -> Question | None:
    """Return the first question in a message's text, whatever stands behind it; None if there is none.

    A question in tags ends with its paragraph where they are not closed; one behind ``ASK:`` with its line. An empty
    message asks nothing: small mentors write one behind a reply that answers all.
    """
    if not text.strip():
        return Question("", "", f"{_OPEN}{_CLOSE}")
    call = _ASK.search(text)
    if call is None:
        return None
    behind = text[call.end() :]
    if call[0].lower() == _OPEN:
        question = re.split(r"</?ask>|\n\s*\n", behind.lstrip(), maxsplit=1, flags=re.IGNORECASE)[0]
    else:
        question = behind.partition("\n")[0]
    before, question = text[: call.start()], _asked(question.strip(_AROUND))
    return Question(before, question, f"{before}{_OPEN}{question}{_CLOSE}")


def find_tool_call(text: str) -> Question | None:
    """Return the first call of a tool in a message; None if there is none.

    One that is no call of ours (another function, arguments that cannot be read) has no question, and stands in the
    conversation as one of ours: a server may refuse a conversation with the other.
    """
    call = find_call(text) if text.strip() else ToolCall("", "", "")
    if call is None:
        return None
    question = _asked(call.argument(_FUNCTION, _PARAMETER).strip())
    arguments = json.dumps({_PARAMETER: question}, ensure_ascii=False)
    return Question(call.before, question, call.before, arguments)


def _asked(question: str) -> str:
    return "" if question == _EXAMPLE or not re.search(r"\w", question) else question


_OPEN, _CLOSE = "<ask>", "</ask>"
_ASK = re.compile(r"<ask>|^[ \t>*_`#-]*ask[*_`]*:", re.IGNORECASE | re.MULTILINE)
_AROUND = " \t\r\n*_`\"'"  # what models put around a question
_EXAMPLE = "a small question that says all the facts and numbers it needs"
_FUNCTION, _PARAMETER = "ask", "question"
TOOL = ToolUse(
    functions=(
        {
            "name": _FUNCTION,
            "description": "Ask the assistant who does the calculations. It cannot see the problem.",
            "parameters": {
                "type": "object",
                "properties": {_PARAMETER: {"type": "string", "description": _EXAMPLE}},
                "required": [_PARAMETER],
            },
        },
    ),
    parallel=False,
    textual=False,  # there is delegate:text
)
TEXT = ToolProtocol(
    "text",
    find_ask,
    instructions=(
        "Solve the problem below with an assistant who does the calculations for you. It cannot see the problem. To "
        f"ask it, write\n{_OPEN}{_EXAMPLE}{_CLOSE}\n"
        "and stop: you then get the reply, and may ask again. "
    ),
    reply="Reply: ",
    nothing=f"There was no question. Write {_OPEN}your question{_CLOSE}, or give the final answer.",
    stop=(_CLOSE,),
)
NATIVE = ToolProtocol(
    "native",
    find_tool_call,
    instructions=(
        "Solve the problem below with an assistant who does the calculations for you. It cannot see the problem. To "
        f"ask it, call {_FUNCTION}: you then get the reply, and may ask again. "
    ),
    reply="",
    nothing=f"There was no question. Call {_FUNCTION} with a {_PARAMETER}, or give the final answer.",
    tools=TOOL,
)
