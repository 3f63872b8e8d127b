"""A request's conversation as one text, by the model's own chat template, with the functions that it may call."""

from __future__ import annotations

from typing import Any

from tandem.models.base import Request
from tandem.models.tool_prompt import has_tools, how_to_call, in_words
from tandem.tools import OPENS_CALL, json_object
from tandem.types import Message


def conversation(tokenizer: Any, request: Request) -> str:
    """Return the text up to the answer's beginning. A template that knows no calls in our form has them in words.

    Raises whatever the template raises: it is the model's own program.
    """
    template, tools, messages = tokenizer.chat_template, request.tools, request.told
    options: dict[str, Any] = {}
    if tools or has_tools(messages):
        if OPENS_CALL not in str(template):
            messages = in_words(messages, how_to_call(tools))
        elif tools and tools.choice != "none":
            options["tools"] = tools.openai
    if not template:
        return "\n\n".join([*(f"{m.role}: {m.content}" for m in messages), "assistant:"])
    told = [_templated(message) for message in messages]
    return str(tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False, **options))


def begun_call(request: Request) -> str:
    """Return how an answer begins that must call a function; empty for any other, and for one that goes on."""
    tools = request.tools
    if tools is None or tools.choice != "required" or request.prefix is not None:
        return ""
    name = tools.named or (tools.names[0] if len(tools.functions) == 1 else None)
    return _BEGUN if name is None else f'{_BEGUN}{name}", "arguments": {{'


def _templated(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": _given(call.arguments)}}
            for call in message.tool_calls
        ]
    elif message.role == "tool":
        body["tool_call_id"] = message.tool_call_id
    return body


def _given(arguments: str) -> Any:
    """Return arguments as templates write them: an object, where they are one."""
    found = json_object(arguments or "{}")
    return arguments if found is None else found


_BEGUN = f'{OPENS_CALL}\n{{"name": "'
