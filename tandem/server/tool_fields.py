"""Tools in a chat's body: functions, the choice among them, and a history of calls and replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from tandem.errors import UsageError
from tandem.json_schema import need_schema, schema_text
from tandem.server.errors import ApiError
from tandem.tools import FunctionCall, ToolUse

MOST_TOOLS = 128
MOST_CALLS = 128  # in one message
MOST_CHARACTERS = 250_000  # of all functions, as JSON


def encodable(text: str) -> str:
    """Return a valid text: JSON escapes can encode a lone surrogate, which cannot be sent to a model."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not valid Unicode text: a lone surrogate at position {error.start}") from None
    return text


def _encoded(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value


def _schema(value: Any) -> Any:
    """Return the parameters of a function, bounded in size; whether they are a JSON Schema takes longer to see."""
    if not isinstance(value, dict):
        return value
    try:
        schema_text(value)
    except UsageError as error:
        raise ValueError(str(error)) from None
    if value.get("type", "object") != "object":
        raise ValueError("the parameters of a function are a JSON Schema of type object")
    return value


class StrictField(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Id = Annotated[str, Field(min_length=1, max_length=1000), BeforeValidator(_encoded)]
Words = Annotated[str, BeforeValidator(_encoded)]


class FunctionField(StrictField):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: Name
    description: Annotated[Words, Field(max_length=20_000)] | None = None
    parameters: Annotated[dict[str, Any], BeforeValidator(_schema)] | None = None
    strict: bool | None = None


class ToolField(StrictField):
    """A tool: functions are the only supported kind."""

    type: Literal["function"]
    function: FunctionField


class NamedFunction(StrictField):
    name: Name


class NamedTool(StrictField):
    """The function that must be called."""

    type: Literal["function"]
    function: NamedFunction


Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")] | Annotated[NamedTool, Tag("<function>")],
    Discriminator(lambda value: "<function>" if isinstance(value, dict | NamedTool) else "<word>"),
]


class CalledFunction(StrictField):
    """What a model called: it may have made up the name."""

    name: Annotated[Words, Field(min_length=1, max_length=200)]
    arguments: Words


class CallField(StrictField):
    """A call in an earlier message of the assistant."""

    id: Id
    type: Literal["function"]
    function: CalledFunction


class HistoryMessage(Protocol):
    """What is read of a message."""

    @property
    def role(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[CallField] | None: ...
    @property
    def tool_call_id(self) -> str | None: ...


def tool_use(
    tools: Sequence[ToolField] | None, choice: str | NamedTool | None, parallel: bool | None
) -> ToolUse | None:
    """Return the functions that may be called; None for none. Raises ValueError naming the field."""
    named = choice.function.name if isinstance(choice, NamedTool) else None
    if not tools:
        if named or choice == "required":
            raise ValueError("'tool_choice' asks for a call, and there are no 'tools'")
        return None
    names = [tool.function.name for tool in tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"'tools[{place}].function.name' is that of an earlier function: {name}")
    if named and named not in names:
        raise ValueError(f"'tool_choice.function.name' is none of the tools: {named}")
    functions = tuple(tool.function.model_dump(exclude_none=True) for tool in tools)
    use = ToolUse(
        functions=functions,
        choice="required" if named else choice or "auto",
        named=named,
        parallel=parallel is not False,
    )
    if len(use.text) > MOST_CHARACTERS:
        raise ValueError(f"'tools' have {len(use.text):,} characters as JSON; {MOST_CHARACTERS:,} are allowed")
    return use


def calls_of(message: HistoryMessage) -> tuple[FunctionCall, ...]:
    """Return the calls of an earlier message."""
    return tuple(
        FunctionCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in message.tool_calls or ()
    )


def check_history(messages: Sequence[HistoryMessage]) -> None:
    """Raise ValueError, naming the field, unless every call has one reply behind it and every reply a call."""
    open_calls: list[str] = []
    asked = 0  # the place of the message that they are in
    for place, message in enumerate(messages):
        here = f"'messages[{place}]"
        if message.role == "tool":
            if message.tool_call_id is None:
                raise ValueError(f"{here}.tool_call_id' is missing: it names the call that the message replies to")
            if message.tool_call_id not in open_calls:
                raise ValueError(
                    f"{here}.tool_call_id' is that of no open call in the latest message with 'tool_calls': "
                    f"{message.tool_call_id}"
                )
            open_calls.remove(message.tool_call_id)
            continue
        if message.tool_call_id is not None:
            raise ValueError(f"{here}.tool_call_id' belongs to the role tool")
        if open_calls:
            break
        if message.tool_calls and message.role != "assistant":
            raise ValueError(f"{here}.tool_calls' belongs to the role assistant")
        for number, call in enumerate(message.tool_calls or ()):
            if call.id in open_calls:
                raise ValueError(f"{here}.tool_calls[{number}].id' is that of an earlier call: {call.id}")
            open_calls.append(call.id)
        asked = place
    if open_calls:
        raise ValueError(
            f"there is no reply of the role tool to {', '.join(open_calls)} in 'messages[{asked}].tool_calls'"
        )


def check_parameters(tools: ToolUse) -> None:
    """Raise ApiError, naming the field, for parameters of a function that are no JSON Schema."""
    for place, function in enumerate(tools.functions):
        try:
            need_schema(schema_text(function.get("parameters") or {}))
        except UsageError as error:
            where = f"tools[{place}].function.parameters"
            raise ApiError(400, f"{where}: {error}", param=where) from None
