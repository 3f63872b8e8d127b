"""From a Request to the JSON of a chat or of a completion, in the dialect that the endpoint is found to understand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tandem.errors import CapabilityError
from tandem.models.base import Request
from tandem.models.tool_prompt import how_to_call, in_words
from tandem.response_format import ResponseFormat
from tandem.spec import Continuation, ModelSpec
from tandem.tools import ADVICE, ToolUse
from tandem.types import Message

_PENALTIES = ("presence_penalty", "frequency_penalty")
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}

_FORM = re.compile(r"response_?format|json[ _]?schema|json_?object|structured|guided|grammar", re.I)
_LACKS = re.compile(
    r"unsupported|not (?:\w+ )?(?:support|available|permitted|allowed)|unavailable|unknown|unrecogni[sz]ed|extra", re.I
)
_THIS_SCHEMA = re.compile(r"invalid (?:json )?schema|schema contains|keyword|in context", re.I)
_NARROWER_USAGE: dict[str, Literal["plain", "none"]] = {"continuous": "plain", "plain": "none"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """Options that servers differ in; each is dropped for good when the server answers 400 because of it.

    `usage`: the report comes with every chunk where that is of use (vLLM, SGLang), with the last one, or not at all.
    `effort` is the lowest `reasoning_effort` of a model with hidden reasoning. `ids`: token ids are taken and given.
    `single`: one tool call at a time is asked for. `tools`: functions are taken; else they stand in the messages.
    `form`: an answer is decoded by a schema, as an object, or not.
    """

    usage: Literal["continuous", "plain", "none"] = "continuous"
    effort: Literal["minimal", "low"] | None = "minimal"
    ids: bool = True
    single: bool = True
    tools: bool = True
    form: Literal["schema", "object", "none"] = "schema"

    def narrower(self, complaint: str) -> Dialect | None:
        """Return the dialect without what the server complains of; None if it complains of something else."""
        text = complaint.lower()
        if self.form != "none" and refuses_form(text) and _LACKS.search(text) and not _THIS_SCHEMA.search(text):
            return replace(self, form="object" if self.form == "schema" else "none")
        if "parallel_tool_calls" in text and self.single:
            return replace(self, single=False)
        # Beside tools some models take none but "none": without its reasoning it would be another model.
        effort = "reasoning_effort" in text or ("think" in text and "level" in text)  # Google's word for it
        if effort and "tools" not in text and self.effort is not None:
            return replace(self, effort="low" if self.effort == "minimal" else None)
        if any(word in text for word in ("stream_options", "continuous_usage", "include_usage")):
            usage = _NARROWER_USAGE.get(self.usage)
            return replace(self, usage=usage) if usage else None
        return None


def refuses_form(complaint: str) -> bool:
    """Whether a server complains of the form that an answer is to have: it, or the schema, is beyond it."""
    return bool(_FORM.search(complaint))


def as_taken(request: Request, spec: ModelSpec, dialect: Dialect) -> Request:
    """Return the request with the answer's form as this endpoint decodes by it, the rest of it in words.

    What thinks aloud would have to think in JSON.
    """
    form = request.response_format
    if form is None:
        return request
    able = "none" if spec.thinks or request.decoded_by is None else dialect.form
    if able == "schema" or (able == "object" and not form.schema):
        return request
    return replace(request, messages=request.told, response_format=ResponseFormat() if able == "object" else None)


def chat_body(spec: ModelSpec, served: str, request: Request, dialect: Dialect) -> dict[str, Any]:
    """Return the JSON of a streamed chat completion.

    Raises CapabilityError where the model cannot do what is asked: log-probabilities it does not give, a prefix it
    cannot continue, or a prefix of token ids.
    """
    body = _body(spec, served, request, dialect)
    if dialect.tools:
        body["messages"] = wire_messages(request.messages)
        # Where none may be called, open models that read of functions call them all the same.
        offered = request.tools is not None and (request.tools.choice != "none" or spec.tools)
        body |= _tools(request.tools, dialect) if request.tools and offered else {}
    else:
        if request.tools and not request.tools.textual:
            raise CapabilityError(f"'{spec.name}' takes no tools here, {ADVICE}")
        body["messages"] = wire_messages(in_words(request.messages, how_to_call(request.tools)))
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.prefix is not None:
        _continue(body, spec, request.prefix)
    return body


def completion_body(
    spec: ModelSpec, served: str, request: Request, dialect: Dialect, prompt: str | Sequence[int]
) -> dict[str, Any]:
    """Return the JSON of a streamed completion of a text or token ids; raises CapabilityError as `chat_body` does."""
    body = _body(spec, served, request, dialect)
    body["prompt"] = prompt if isinstance(prompt, str) else list(prompt)
    if request.top_logprobs:
        body["logprobs"] = request.top_logprobs
        if request.alternatives is None:  # by name, tokens that look alike (each the half of a character) would be one
            body["return_tokens_as_token_ids"] = True
    return body


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages of a chat as JSON. Calls have ids of nine letters and digits: some servers want those."""
    written: list[dict[str, Any]] = []
    ids: dict[str, str] = {}  # of the latest message with calls
    for message in messages:
        body: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            ids = {call.id: f"call{len(written) + place:05}" for place, call in enumerate(message.tool_calls)}
            calls = [(ids[call.id], {"name": call.name, "arguments": call.arguments}) for call in message.tool_calls]
            body["tool_calls"] = [{"id": id, "type": "function", "function": called} for id, called in calls]
            body["content"] = message.content or None
        elif message.role == "tool":
            body["tool_call_id"] = ids.get(message.tool_call_id or "", message.tool_call_id)
        written.append(body)
    return written


def _tools(tools: ToolUse, dialect: Dialect) -> dict[str, Any]:
    named = {"type": "function", "function": {"name": tools.named}}
    body: dict[str, Any] = {
        "tools": tools.openai,
        "tool_choice": named if tools.named else tools.choice,
    }
    if dialect.single and not tools.parallel:
        body["parallel_tool_calls"] = False
    return body


def _body(spec: ModelSpec, served: str, request: Request, dialect: Dialect) -> dict[str, Any]:
    body: dict[str, Any] = {"model": served, "stream": True}
    ids = spec.token_ids and dialect.ids and request.may_be_cut  # they cost the server a little at each token
    if ids:
        body["return_token_ids"] = True
    if dialect.usage != "none":
        body["stream_options"] = {"include_usage": True}
        # It costs as much as ids do, and those tell the same.
        if dialect.usage == "continuous" and request.may_be_cut and not ids:
            body["stream_options"]["continuous_usage_stats"] = True
    sampling = request.sampling
    if spec.reasoning:
        body["max_completion_tokens"] = request.max_tokens
        if dialect.effort:
            body["reasoning_effort"] = dialect.effort
    else:
        body["max_tokens"] = request.max_tokens
        # Always both: a server's defaults may come from the model's own generation_config.
        body["temperature"] = sampling.temperature
        body["top_p"] = sampling.top_p
        body |= {name: value for name in _PENALTIES if (value := getattr(sampling, name))}
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.response_format is not None:
        body["response_format"] = request.response_format.openai
    if request.top_logprobs and (spec.reasoning or not spec.logprobs):
        raise CapabilityError(f"'{spec.name}' gives no log-probabilities: choose another model to write drafts")
    return body


def _continue(body: dict[str, Any], spec: ModelSpec, prefix: str | tuple[int, ...]) -> None:
    if not isinstance(prefix, str):
        raise CapabilityError(f"'{spec.name}': this endpoint continues text, not token ids")
    if spec.continuation is not Continuation.NATIVE:
        why = "was not probed for it" if spec.continuation is None else "cannot do it"
        raise CapabilityError(f"'{spec.name}' is to continue a partial answer and {why}")
    body["messages"].append({"role": "assistant", "content": prefix})
    body.update(CONTINUE)
