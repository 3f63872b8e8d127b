"""Probing an endpoint's capabilities: its list of models, one short chat, and a cached result."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tandem.errors import EndpointError, TandemError
from tandem.models.base import Request
from tandem.models.catalog import lookup
from tandem.models.openai.errors import Backoff, Failure
from tandem.models.openai.request import CONTINUE
from tandem.models.openai.token_ids import REFUSED, joins, prompt_ids, template_ids
from tandem.models.openai.transport import Endpoint
from tandem.paths import cache_dir
from tandem.spec import Continuation, ModelSpec
from tandem.storage.files import write_whole
from tandem.types import Message

_KEPT = 7 * 24 * 3600  # seconds
_SHOWN = 8  # names of served models in an error message
_NO_LIST = (404, 405, 501)  # of an endpoint without a list of models
_RETRIES = 2  # a user who waits for a start wants the error soon

# The partial answer ends where every tokenizer has a boundary, and only a continuation of it can begin with a comma.
_QUESTION = "Count from 1 to 20, separated by commas. Write nothing else."
_PARTIAL = "1, 2, 3, 4, 5, 6, 7, 8, 9"
_MARK = ","


class Findings(BaseModel):
    """What was found. `logprobs` is None where it was not asked. Never holds an address or a key.

    A file of another version has other fields: it counts as none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    time: float
    continuation: Continuation
    logprobs: bool | None
    token_ids: bool
    opens_thinking: bool | None


async def probe(endpoint: Endpoint, spec: ModelSpec) -> ModelSpec:
    """Return `spec` with context, continuation and log-probabilities as found, from the cache where it is fresh.

    Raises EndpointError if the endpoint is down, refuses the key or does not serve the model. A `continuation` that
    the spec already has is believed: then only the list of models is asked for.
    """
    update: dict[str, Any] = {}
    if context := await served_context(endpoint, _RETRIES):
        update["context"] = context
    if spec.continuation is None:
        path = _file(endpoint)
        findings = _load(path) or await _ask(endpoint, spec)
        with contextlib.suppress(TandemError):  # a cache that cannot be written costs one request at the next start
            write_whole(path, findings.model_dump_json(), private=True, durable=False, parents=True)
        update |= {"continuation": findings.continuation, "token_ids": findings.token_ids}
        update |= {"opens_thinking": findings.opens_thinking, "thinks": spec.thinks or bool(findings.opens_thinking)}
        if findings.logprobs is not None:
            update["logprobs"] = findings.logprobs
    if spec.reasoning:
        update["logprobs"] = False
    return spec.model_copy(update=update)


async def served_context(endpoint: Endpoint, retries: int = 0) -> int | None:
    """Return the context that the list of models gives, where there is one and it does.

    Raises EndpointError if the endpoint is down, refuses the key or does not serve the model.
    """
    card = await _served_card(endpoint, retries)
    # What the server allows, not what the model could: vLLM is often started with less.
    return card.get("max_model_len") or card.get("context_length")


async def served_weights(endpoint: Endpoint) -> str | None:
    """Return the weights behind the name as the list of models has them (vLLM: a path or hub id), if it does.

    The last part of it only, of a hub's folder the model's name, in lower case: machines keep weights in different
    places. Raises as `served_context` does.
    """
    card = await _served_card(endpoint, _RETRIES)
    root = str(card.get("root") or "").rstrip("/")
    return (
        None if root in ("", endpoint.origin.model) else _last(root)
    )  # some servers have no more to say than the name


async def _served_card(endpoint: Endpoint, retries: int) -> dict[str, Any]:
    """Return the model's entry in /v1/models; an empty one where the endpoint has no such list.

    From then on the endpoint is asked for the model by the name that it has there.
    """
    origin = endpoint.origin
    if not endpoint.keys.lists_models:
        return {}
    try:
        listed = await endpoint.fetch(endpoint.models, Backoff(retries), _NO_LIST)
    except Failure as failure:
        if failure.status in _NO_LIST:
            return {}
        raise
    try:
        cards: dict[str, dict[str, Any]] = {str(card["id"]): card for card in json.loads(listed)["data"]}
    except (ValueError, TypeError, KeyError):
        raise EndpointError(f"{origin.where} does not speak the OpenAI API: /models is no list of models") from None
    found = _served_as(endpoint.model, cards)
    if len(found) != 1:
        raise EndpointError(f"{origin.where} {_refusal(endpoint, found or sorted(cards), several=bool(found))}")
    endpoint.serves_as(found[0])
    return dict(cards[found[0]])


def _served_as(name: str, cards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the ids under which a model is listed: as asked for, or by a name of its catalog entry.

    vLLM lists what it was started with, a hub id or a folder, and as `root` what stands behind a name of the user's.
    """
    if name in cards:
        return [name]
    hub_id = _is_hub_id(name)
    entry = lookup(name if hub_id else _last(name))
    names = dict.fromkeys((name.lower(), *(entry.called() if entry else ())))
    lower = {identity.lower(): identity for identity in cards}
    if known := next((lower[each] for each in names if each in lower), None):
        return [known]
    ends = {_last(each) for each in names}
    # Somebody else's model of the same name is another model where an owner was asked for.
    by_path = [each for each in cards if _last(each) in ends and not (hub_id and _is_hub_id(each))]
    if by_path:
        return by_path
    by_root = [identity for identity, card in cards.items() if _last(str(card.get("root") or "")) in ends]
    return by_root[:1]  # a server may give the same weights several names


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _last(name: str) -> str:
    """Return the last part of a path, in lower case; of a hub's folder the model's name."""
    parts = name.rstrip("/").split("/")
    hub = next((part.rpartition("--")[2] for part in parts if part.startswith("models--")), None)
    return (hub or parts[-1]).lower()


def _refusal(endpoint: Endpoint, names: Sequence[str], *, several: bool) -> str:
    name, role = endpoint.model, endpoint.keys.role
    option = f"--{role} NAME" if role else "its name"
    if several:
        return f"serves '{name}' as {', '.join(names[:_SHOWN])}: say which, with {option}"
    near = difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.3)
    shown = [*near, *(other for other in names if other not in near)]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    line = f"serves no model '{name}': it serves {', '.join(shown[:_SHOWN]) or 'none'}{more}"
    if len(names) == 1:
        line += f"; if that is it, pass --{role} {names[0]}" if role else f"; if that is it, ask for {names[0]}"
    return line


async def _ask(endpoint: Endpoint, spec: ModelSpec) -> Findings:
    """Let the model continue a partial answer, with log-probabilities; drops options that the server refuses (400)."""
    body: dict[str, Any] = {
        "model": endpoint.origin.model,
        "messages": [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _PARTIAL}],
        "stream": False,
        **CONTINUE,
    }
    if spec.reasoning:
        body["max_completion_tokens"] = 16
    else:
        body |= {"max_tokens": 4, "temperature": 0.0, "logprobs": True, "top_logprobs": 20}
    choice: dict[str, Any] | None = None
    backoff = Backoff(_RETRIES)
    while choice is None:
        try:
            choice = _choice(endpoint, await endpoint.fetch(partial(endpoint.chat, body), backoff, (400, 422)))
        except Failure as failure:
            if failure.status not in (400, 422):
                raise
            if "logprobs" in body and "logprobs" in failure.detail and not any(f in failure.detail for f in CONTINUE):
                if body["top_logprobs"] > 1:
                    body["top_logprobs"] = 1  # fewer than 20: a request for more gets an error that says how many
                else:
                    del body["logprobs"], body["top_logprobs"]
            elif "continue_final_message" in body:
                for flag in CONTINUE:
                    del body[flag]
                if spec.reasoning:
                    break  # nothing is left to learn
                body["messages"] = body["messages"][:1]
            else:
                raise
    choice = choice or {}
    message = choice.get("message") or {}
    reply = (message.get("reasoning_content") or message.get("reasoning") or "") + (message.get("content") or "")
    native = "continue_final_message" in body and reply.lstrip().startswith(_MARK)
    tokens = (choice.get("logprobs") or {}).get("content") or []
    ids, opens = (False, None) if spec.reasoning or endpoint.keys.own else await _takes_ids(endpoint)
    return Findings(
        model=endpoint.origin.model,
        time=time.time(),
        continuation=Continuation.NATIVE if native or ids else Continuation.SECTIONS,
        logprobs=None if spec.reasoning else bool(tokens and tokens[0].get("top_logprobs")),
        token_ids=ids,
        opens_thinking=opens,
    )


async def _takes_ids(endpoint: Endpoint) -> tuple[bool, bool | None]:
    """Return whether the server has a tokenizer whose ids it takes as a prompt, and gives those of the answer.

    And whether its template opens a thinking block; None where it does not tell.
    """
    opens: bool | None = None
    question = Request((Message(role="user", content=_QUESTION),), "answer", 4, prefix=_PARTIAL)
    backoff = Backoff(_RETRIES)
    while True:
        try:
            _, opens = await template_ids(endpoint, question.messages)
            if not await joins(endpoint, question.messages, _PARTIAL):
                return False, opens
            template, written = await prompt_ids(endpoint, question)
            body: dict[str, Any] = {
                "model": endpoint.origin.model,
                "prompt": [*template, *written],
                "max_tokens": question.max_tokens,
                "temperature": 0.0,
                "stream": False,
                "return_token_ids": True,
            }
            answer = await endpoint.fetch(partial(endpoint.completion, body), backoff, REFUSED)
            return bool(_choice(endpoint, answer).get("token_ids")), opens
        except Failure as failure:
            if failure.status in REFUSED:
                return False, opens
            await backoff.wait(failure)


def _choice(endpoint: Endpoint, answer: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(answer)["choices"][0])
    except (ValueError, TypeError, KeyError, IndexError):
        raise EndpointError(f"{endpoint.origin.where} does not speak the OpenAI API: a chat has no choices") from None


def _file(endpoint: Endpoint) -> Path:
    identity = f"{endpoint.base_url}\n{endpoint.origin.model}"
    return cache_dir() / "probes" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def _load(path: Path) -> Findings | None:
    try:
        findings = Findings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return findings if 0 <= time.time() - findings.time < _KEPT else None
