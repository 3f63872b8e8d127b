"""The body of /v1/responses, and the chat that it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from tandem.server.errors import ApiError, invalid
from tandem.server.responses.items import Item, ResponsesPart, Turn, turns
from tandem.server.schema import ChatRequest, TandemOptions

_STORED = "nothing is stored here: send the whole conversation as input"
# Fields that cannot be honoured, with their no-op values, and why.
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "previous_response_id": ((), _STORED),
    "conversation": ((), _STORED),
    "prompt": ((), "no prompts are stored here: send instructions and input"),
    "background": ((False,), "nothing is stored here: an answer cannot be fetched later"),
    "truncation": (("disabled",), "a long input is refused, not cut"),
    "context_management": (([],), "a long input is refused, not compacted"),
    "moderation": ((), "leave it out"),
}
_NAMES = {  # of a chat's fields in this API: the first that fits
    r"max_completion_tokens\b": "max_output_tokens",
    r"reasoning_effort\b": "reasoning.effort",
    r"response_format(\.json_schema)?\b": "text.format",
    r"(tools\[\d+\]|tool_choice)\.function\b": r"\1",
    r"logprobs\b": "include",
    r"messages\b": "input",
}
_LOGPROBS = "message.output_text.logprobs"
_Summary = Literal["auto", "concise", "detailed"]
_Included = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",  # an answer's reasoning is told as it is
    "file_search_call.results",  # of tools that cannot be asked for
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "message.input_image.image_url",
]
_NOT_HONOURED = ("store", "user", "safety_identifier", "prompt_cache_key")  # a chat names them in its header
_Key = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=512)]
_Items = Annotated[list[Item], Field(min_length=1, max_length=1000)]
_Input = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[_Items, Tag("<items>")],
    Discriminator(lambda value: "<text>" if isinstance(value, str) else "<items>"),
]


class ReasoningOptions(ResponsesPart):
    """How much of the ladder may be used, as `reasoning_effort` of a chat. What is told of it does not change."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: _Summary | None = None
    generate_summary: _Summary | None = None
    context: Literal["auto", "current_turn"] | None = None
    mode: Literal["standard"] | None = None


class TextFormat(ResponsesPart):
    """The form of the answer: text, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    given: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    def chat(self) -> dict[str, Any]:
        """Return the `response_format` of a chat."""
        named = self.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
        return {"type": self.type} | ({"json_schema": named} if named or self.type == "json_schema" else {})


class TextOptions(ResponsesPart):
    """What the answer's text is like."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


def _function(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "function":
        raise ValueError(f"{kind!r} is not supported: a tool here is a function of yours, of type 'function'")
    return kind


_Name = Annotated[str, Field(max_length=64)]
_Function = Annotated[Literal["function"], BeforeValidator(_function)]


class FlatTool(ResponsesPart):
    """A function that the model may call; `parameters` is a JSON Schema."""

    type: _Function
    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def chat(self) -> dict[str, Any]:
        """Return the tool as a chat has it."""
        return {"type": "function", "function": self.model_dump(exclude={"type"}, exclude_none=True)}


class FlatChoice(ResponsesPart):
    """The function that must be called."""

    type: _Function
    name: _Name


class AllowedTools(ResponsesPart):
    """The functions among which to choose."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[FlatChoice] = Field(min_length=1, max_length=128)


def _choice(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if kind is None and not isinstance(value, dict):
        return "<word>"
    return "<allowed>" if kind == "allowed_tools" else "<function>"


_Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[FlatChoice, Tag("<function>")]
    | Annotated[AllowedTools, Tag("<allowed>")],
    Discriminator(_choice),
]


class ResponsesStreamOptions(ResponsesPart):
    """The options of a stream; nothing in it is obfuscated."""

    include_obfuscation: bool | None = None


class ResponsesRequest(ResponsesPart):
    """The body of /v1/responses; nothing is stored, whatever `store` says."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    model: str = Field(max_length=200)
    input: _Input
    instructions: str | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_tool_calls: int | None = Field(None, ge=1, description="Of tools that OpenAI runs: none here")
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    tools: list[FlatTool] | None = Field(None, max_length=128)
    tool_choice: _Choice | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: list[_Included] | None = Field(None, max_length=20)
    metadata: Annotated[dict[_Key, _Value], Field(max_length=16)] | None = None
    store: bool | None = None
    user: _Value | None = None
    safety_identifier: _Value | None = None
    prompt_cache_key: _Value | None = None
    tandem: TandemOptions | None = None

    @model_validator(mode="after")
    def _honoured(self) -> Self:
        for name, (nothing, reason) in _REFUSED.items():
            value = (self.model_extra or {}).get(name)
            if value is not None and (type(value), value) not in [(type(same), same) for same in nothing]:
                raise ValueError(f"'{name}' is not supported: {reason}")
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' needs stream: true")
        if self.top_logprobs and not self.scored:
            raise ValueError(f"'top_logprobs' needs include: {_LOGPROBS}")
        if wrong := self.other_fields & ChatRequest.model_fields.keys():
            raise ValueError(f"'{min(wrong)}' is a field of /v1/chat/completions, not of this API")
        return self

    @property
    def other_fields(self) -> set[str]:
        """The names of fields that this API does not have."""
        return {name for name, value in (self.model_extra or {}).items() if value is not None} - _REFUSED.keys()

    @property
    def scored(self) -> bool:
        """Whether log-probabilities are asked for."""
        return _LOGPROBS in (self.include or ())

    @property
    def turns(self) -> list[Turn]:
        return turns(self.instructions, self.input)

    def chat(self) -> ChatRequest:
        """Return the chat that is asked for. Raises ApiError naming the chat's field."""
        same = ("model", "stream", "temperature", "top_p", "parallel_tool_calls", "tandem", *_NOT_HONOURED)
        text = self.text or TextOptions()
        asked = {
            "messages": [turn.message for turn in self.turns],
            "max_completion_tokens": self.max_output_tokens,
            "reasoning_effort": self.reasoning and self.reasoning.effort,
            "response_format": text.format and text.format.chat(),
            "verbosity": text.verbosity,
            "tools": None if self.tools is None else [self.tools[place].chat() for place in self._allowed],
            "tool_choice": self._chosen(),
            **({"logprobs": True, "top_logprobs": self.top_logprobs} if self.scored else {}),
            **{name: getattr(self, name) for name in same},
            **{name: (self.model_extra or {})[name] for name in self.other_fields},
        }
        try:
            return ChatRequest.model_validate({name: value for name, value in asked.items() if value is not None})
        except ValidationError as error:
            raise invalid(error.errors()) from None

    @property
    def _allowed(self) -> list[int]:
        """The places of the functions that may be called."""
        names = [one.name for one in self.tool_choice.tools] if isinstance(self.tool_choice, AllowedTools) else None
        return [place for place, tool in enumerate(self.tools or ()) if names is None or tool.name in names]

    def _chosen(self) -> Any:
        """Return a chat's `tool_choice`. Raises ApiError."""
        choice = self.tool_choice
        if isinstance(choice, FlatChoice):
            return {"type": "function", "function": {"name": choice.name}}
        if not isinstance(choice, AllowedTools):
            return choice
        known = {tool.name for tool in self.tools or ()}
        for place, one in enumerate(choice.tools):
            if one.name not in known:
                field = f"tool_choice.tools[{place}].name"
                raise ApiError(400, f"{field} is none of the tools: {one.name}", param=field)
        return choice.mode

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Give errors about the chat the names of this body's fields."""
        try:
            yield
        except ApiError as error:
            if error.param is None or (param := self.named(error.param)) == error.param:
                raise
            message = error.message.replace(f"'{error.param}'", f"'{param}'")
            if message.startswith(f"{error.param}: "):
                message = param + message.removeprefix(error.param)
            raise ApiError(error.status, message, param=param, code=error.code, retry_after=error.retry_after) from None

    def named(self, param: str) -> str:
        """Return this body's name for a field of the chat."""
        if found := re.match(r"messages\[(\d+)\]", param):
            return self.turns[int(found[1])].named(param[found.end() :])
        if found := re.match(r"tools\[(\d+)\]", param):
            param = f"tools[{self._allowed[int(found[1])]}]{param[found.end() :]}"
        for pattern, ours in _NAMES.items():
            if re.match(pattern, param):
                return re.sub(pattern, ours, param, count=1)
        return param
