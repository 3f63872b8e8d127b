"""The request bodies, as strict as OpenAI's: what is not supported is refused by name, or named in a header."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tandem.config import Pace
from tandem.costs import Unit, parse_unit
from tandem.errors import UsageError
from tandem.json_schema import check_schema
from tandem.response_format import ResponseFormat
from tandem.server.fields import ignored, refused
from tandem.server.tool_fields import (
    MOST_CALLS,
    MOST_TOOLS,
    CallField,
    Choice,
    Id,
    StrictField,
    ToolField,
    check_history,
    encodable,
    tool_use,
)
from tandem.tools import ToolUse
from tandem.types import TaskKind

MOST_CHOICES = 8
MOST_PROMPTS = 128  # that are read as they stand
_TOKENS = 1 << 31
MOST_TOKENIZED = 1_000_000  # characters, or tokens
MOST_LOGPROBS = 20  # likeliest tokens at each place


def joined(content: Any, kinds: tuple[str, ...] = ("text",)) -> Any:
    """Join the parts of a content, of these types; images and audio are refused, each by its position."""
    if not isinstance(content, list):
        return content
    texts = []
    for place, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") not in kinds:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"part {place} is of type {kind!r}; only text is supported")
        if not isinstance(part.get("text"), str):
            raise ValueError(f"part {place} has no text")
        texts.append(part["text"])
    return "".join(texts)


def _deprecated(value: Any) -> None:
    if value is not None:
        raise ValueError("it is deprecated and not supported: use tools and tool_calls")


def _listed(value: Any) -> Any:
    """Wrap a single text in a list, so that an error's location is the field and not a variant of its type."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    raise ValueError("it must be a string or a list of strings")


def _prompts(value: Any) -> Any:
    """Return a list of prompts: one text or one list of token ids is the only one."""
    if isinstance(value, list) and value and type(value[0]) is int:
        return [value]
    if isinstance(value, str | list):
        return [value] if isinstance(value, str) else value
    raise ValueError("it must be a text, token ids, or a list of either")


def _prompt(value: Any) -> Any:
    """Check one prompt: a text, or a list of token ids."""
    if isinstance(value, str):
        return encodable(value)
    if not isinstance(value, list):
        raise ValueError("it must be a text or a list of token ids")
    good = [type(token) is int and 0 <= token < _TOKENS for token in value]
    if not all(good):
        raise ValueError(f"item {good.index(False)} is no token id: they are whole numbers from 0 on")
    return tuple(value)


def _unit(value: Any) -> Any:
    try:
        return parse_unit(value) if isinstance(value, str) else value
    except UsageError as error:
        raise ValueError(str(error)) from None


_Text = Annotated[str, AfterValidator(encodable)]
_Stops = Annotated[list[_Text], Field(max_length=4)]
_Ids = list[Annotated[int, Field(ge=0, lt=_TOKENS)]]
_Prompts = Annotated[list[Annotated[Any, AfterValidator(_prompt)]], Field(min_length=1, max_length=MOST_PROMPTS)]
_WrittenPrompts = Annotated[str | list[str] | _Ids | list[_Ids], Field(union_mode="left_to_right")]


class TextPart(StrictField):
    """A part of a content: the only supported kind."""

    type: Literal["text"]
    text: str


class ChatMessage(StrictField):
    """One message; `content` may be a text or a list of text parts, and is not needed beside calls.

    An assistant's calls have a reply each, a message of the role `tool`, before anybody else speaks.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[_Text, BeforeValidator(joined, json_schema_input_type=str | list[TextPart] | None)]
    function_call: Annotated[None, BeforeValidator(_deprecated)] = Field(None, description="Deprecated: tool_calls")
    tool_calls: Annotated[list[CallField], Field(max_length=MOST_CALLS)] | None = None
    tool_call_id: Id | None = None

    @model_validator(mode="before")
    @classmethod
    def _silent(cls, given: Any) -> Any:
        """Give a message of calls alone an empty content."""
        if isinstance(given, dict) and given.get("tool_calls") and given.get("content") is None:
            return given | {"content": ""}
        return given


class StreamOptions(StrictField):
    """The options of a stream's end."""

    include_usage: bool = False


class NamedSchema(StrictField):
    """A JSON Schema that the answer must fit."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: Annotated[_Text, Field(max_length=4000)] | None = None
    given: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class AnswerForm(StrictField):
    """The form of the answer: text, any JSON object, or JSON by a schema."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("'json_schema' belongs to the type json_schema, and to no other")
        return self

    def format(self) -> ResponseFormat | None:
        """Return what is asked for; None for text. Raises UsageError for a schema that is none."""
        if self.json_schema is None:
            return ResponseFormat() if self.type == "json_object" else None
        named = self.json_schema
        return ResponseFormat(check_schema(named.given), named.name, named.description or "", named.strict)


class TandemOptions(BaseModel):
    """Tandem's own options, per request: `extra_body={"tandem": {...}}` of the openai client."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    effort: str | None = Field(None, max_length=200, description="Ladder, as none,low=40,high,answer")
    pace: Pace | None = None
    draft_tokens: int | None = Field(None, ge=1, le=100_000)
    budget_usd: float | None = Field(None, gt=0, allow_inf_nan=False, description="The most that this request may cost")
    unit: Annotated[Unit, BeforeValidator(_unit)] | None = Field(None, description="Of the operating point, as usd")
    aim: str | None = Field(None, max_length=100, description="One of the aims in /v1/tandem")
    task: TaskKind | None = Field(None, description="The kind of question; guessed from its text if not given")
    events: bool = Field(False, description="Decisions and sections in the stream")


class _Sampled(StrictField):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    model: str = Field(max_length=200)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Annotated[_Stops, BeforeValidator(_listed, json_schema_input_type=str | _Stops)] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    tandem: TandemOptions | None = None

    @property
    def ignored(self) -> list[str]:
        """The names of the fields that ask for something which has no effect."""
        return ignored(self.model_extra or {})

    @model_validator(mode="after")
    def _honoured(self) -> Self:
        if name := refused(self.model_extra or {}):
            raise ValueError(f"'{name}' is not supported; leave it out")
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' needs stream: true")
        return self


def _check_continuation(last: bool, go_on: bool | None, begin: bool | None) -> None:
    """Raise ValueError where vLLM's two options do not agree with a conversation, which tells by its `last` message."""
    if go_on and begin:
        raise ValueError("'add_generation_prompt' must be false with continue_final_message")
    if go_on is not None and go_on != last:
        how = (
            "a message of the assistant's that is the last one is"
            if last
            else "only a last message of the assistant's is"
        )
        raise ValueError(f"'continue_final_message' is {str(go_on).lower()}, but {how} continued")
    if begin is not None and begin == last:
        how = "goes on with" if last else "follows"
        raise ValueError(f"'add_generation_prompt' is {str(begin).lower()}, but the answer {how} the last message")


class ChatRequest(_Sampled):
    """The body of /v1/chat/completions. `logprobs` is for the models `intern` and `mentor`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    response_format: AnswerForm | None = None
    tools: Annotated[list[ToolField], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    continue_final_message: bool | None = Field(None, description="The assistant's last message is; as vLLM has it")
    add_generation_prompt: bool | None = Field(None, description="False where the last message is continued")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)

    @property
    def alternatives(self) -> int | None:
        """How many of the likeliest tokens are asked for at each place; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @cached_property
    def tool_use(self) -> ToolUse | None:
        """The functions that may be called; None: there are none."""
        return tool_use(self.tools, self.tool_choice, self.parallel_tool_calls)

    @model_validator(mode="after")
    def _asks(self) -> Self:
        check_history(self.messages)
        continues = self.messages[-1].role == "assistant"
        if not any(message.content.strip() for message in (self.messages[:-1] if continues else self.messages)):
            raise ValueError("nothing is asked: 'messages' has no text, or only the beginning of an answer")
        _check_continuation(continues, self.continue_final_message, self.add_generation_prompt)
        any_object = self.response_format is not None and self.response_format.type == "json_object"
        if any_object and not any("json" in message.content.lower() for message in self.messages):  # as at OpenAI
            raise ValueError("'messages' must say JSON somewhere, or a model may not write any for json_object")
        _ = self.tool_use  # or it says what is wrong
        if self.top_logprobs and not self.logprobs:
            raise ValueError("'top_logprobs' needs logprobs: true")
        return self


class CompletionRequest(_Sampled):
    """The body of /v1/completions: a `prompt` is sent as one user message, or read as it stands (`raw`)."""

    prompt: Annotated[_Prompts, BeforeValidator(_prompts, json_schema_input_type=_WrittenPrompts)]
    max_tokens: int | None = Field(None, ge=0, le=1_000_000)
    logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    echo: bool | None = None

    @property
    def alternatives(self) -> int | None:
        """How many of the likeliest tokens are asked for at each place; None: no log-probabilities."""
        return self.logprobs

    @property
    def raw(self) -> str | None:
        """The field for which a prompt is read as it stands, without a chat template; None: it is a message."""
        if self.echo:
            return "echo"
        if self.logprobs is not None:
            return "logprobs"
        return None if all(isinstance(prompt, str) for prompt in self.prompt) else "prompt"

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not all(self.prompt if self.raw else (text.strip() for text in self.prompt)):
            raise ValueError("'prompt' is empty")
        if self.raw is None and len(self.prompt) > MOST_CHOICES:
            raise ValueError(f"'prompt' may be {MOST_CHOICES} texts, with 'echo' or 'logprobs' {MOST_PROMPTS}")
        if self.stream and len(self.prompt) > 1:
            raise ValueError("'prompt' must be a single one if the answer is streamed")
        if self.max_tokens == 0 and not (self.echo and self.logprobs is not None):
            raise ValueError("'max_tokens' 0 writes nothing: it needs 'echo' and 'logprobs'")
        if self.echo and (self.n or 1) > 1:
            raise ValueError("'n' must be 1 with 'echo'")
        return self


class TokenizeRequest(StrictField):
    """The body of /tokenize."""

    model: Literal["intern", "mentor"] = "intern"
    prompt: Annotated[_Text, Field(max_length=MOST_TOKENIZED)]
    add_special_tokens: bool = True


class DetokenizeRequest(StrictField):
    """The body of /detokenize."""

    model: Literal["intern", "mentor"] = "intern"
    tokens: Annotated[_Ids, Field(max_length=MOST_TOKENIZED)]
