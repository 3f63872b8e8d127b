"""The body of /v1/responses, and the chat that it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

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
    "top_logprobs": ((0,), "leave it out"),
}
_NAMES = {  # of a chat's fields in this API, longest first
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "messages": "input",
}
_Summary = Literal["auto", "concise", "detailed"]
_Included = Literal[
    "reasoning.encrypted_content",  # an answer's reasoning is told as it is
    "file_search_call.results",  # of tools that cannot be asked for
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "message.input_image.image_url",
]
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


class TextOptions(ResponsesPart):
    """The answer's format."""

    format: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


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
        return self

    @property
    def turns(self) -> list[Turn]:
        return turns(self.instructions, self.input)

    def chat(self) -> ChatRequest:
        """Return the chat that is asked for. Raises ApiError naming the chat's field."""
        asked = {
            "messages": [turn.message for turn in self.turns],
            "max_completion_tokens": self.max_output_tokens,
            "reasoning_effort": self.reasoning and self.reasoning.effort,
            **{name: getattr(self, name) for name in ("model", "stream", "temperature", "top_p", "tandem")},
        }
        try:
            return ChatRequest.model_validate(asked)
        except ValidationError as error:
            raise invalid(error.errors()) from None

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
        for name, ours in _NAMES.items():
            if param == name or param.startswith((f"{name}.", f"{name}[")):
                return ours + param.removeprefix(name)
        return param
