"""The items of a Responses input as the messages of a chat, each with its place in the input."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from tandem.server.schema import joined

_PARTS = ("input_text", "output_text", "text")
_CALL = {".id": ".call_id", ".tool_call_id": ".call_id", ".function.name": ".name", ".function.arguments": ".arguments"}
_OWN = ("message", "function_call", "function_call_output", "reasoning")


class ResponsesPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class TypedText(ResponsesPart):
    """A part of a content: the only kinds that are supported."""

    type: Literal["input_text", "output_text", "text"]
    text: str


def _content(content: Any) -> Any:
    return joined(content, _PARTS)


def _known(kind: Any) -> Any:
    if isinstance(kind, str):
        reason = "nothing is stored here" if kind == "item_reference" else f"there are {', '.join(_OWN)}"
        raise ValueError(f"items of type {kind!r} are not supported; {reason}")
    return kind


Content = Annotated[str, BeforeValidator(_content, json_schema_input_type=str | list[TypedText])]


class MessageItem(ResponsesPart):
    """A message; also an earlier answer's, as it was sent."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class CallItem(ResponsesPart):
    """A function that the model called earlier."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=200)
    name: str = Field(min_length=1, max_length=200)
    arguments: str


class OutputItem(ResponsesPart):
    """What a called function returned."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=200)
    output: Content


class EarlierReasoning(ResponsesPart):
    """An earlier answer's reasoning: it is not read again."""

    type: Literal["reasoning"]


class UnknownItem(ResponsesPart):
    """Anything else is refused; an item with nothing but an id refers to a stored one."""

    type: Annotated[str, BeforeValidator(_known)] = Field("item_reference", validate_default=True)


def _tag(item: Any) -> str:
    """Return an item's tag. Tags are no part of a field's name: `field` leaves out what stands in such brackets."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    if isinstance(item, dict) and kind is None:
        kind = "item_reference" if set(item) == {"id"} else "message"
    return f"<{kind}>" if kind in _OWN else "<other>"


Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[CallItem, Tag("<function_call>")]
    | Annotated[OutputItem, Tag("<function_call_output>")]
    | Annotated[EarlierReasoning, Tag("<reasoning>")]
    | Annotated[UnknownItem, Tag("<other>")],
    Discriminator(_tag),
]


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the chat, and where it came from: its own field of the body, and those of its calls."""

    message: dict[str, Any]
    place: str
    calls: list[str] = field(default_factory=list)

    def named(self, rest: str) -> str:
        """Return the body's name for a field of this message, as ``.content`` or ``.tool_calls[0].function.name``."""
        if found := re.match(r"\.tool_calls\[(\d+)\]", rest):
            return self.calls[int(found[1])] + _CALL.get(rest[found.end() :], "")
        if rest == ".tool_calls" and self.calls:
            return self.calls[0]
        if not self.place.endswith("]"):
            return self.place  # a text
        output = self.message["role"] == "tool" and rest == ".content"
        return self.place + (".output" if output else _CALL.get(rest, rest))


def turns(instructions: str | None, items: str | Sequence[Item]) -> list[Turn]:
    """Return the chat that these items are; calls join the model's own message before them."""
    found = [] if instructions is None else [Turn({"role": "system", "content": instructions}, "instructions")]
    if isinstance(items, str):
        return [*found, Turn({"role": "user", "content": items}, "input")]
    for number, item in enumerate(items):
        place = f"input[{number}]"
        match item:
            case MessageItem():
                found.append(Turn({"role": item.role, "content": item.content}, place))
            case CallItem():
                if not found or found[-1].message["role"] != "assistant":
                    found.append(Turn({"role": "assistant", "content": None}, place))
                function = {"name": item.name, "arguments": item.arguments}
                calls = found[-1].message.setdefault("tool_calls", [])
                calls.append({"id": item.call_id, "type": "function", "function": function})
                found[-1].calls.append(place)
            case OutputItem():
                found.append(Turn({"role": "tool", "tool_call_id": item.call_id, "content": item.output}, place))
    return found
