"""Token ids at a server that gives them (vLLM): what a partial answer is continued by.

A template gives a finished answer's form to a partial one: it may drop the thinking, trim the text, or open a thinking
block anew. So the prompt is made of two parts, the template's ids for the messages and the ids of what is written.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from tandem.errors import UsageError
from tandem.models.base import Request
from tandem.models.openai.errors import Failure
from tandem.models.openai.request import wire_messages
from tandem.models.openai.transport import Endpoint
from tandem.thinking import OPENS, is_open
from tandem.types import Message

REFUSED = {400, 404, 405, 422, 501}  # not supported by the server, or not for this request
_KEPT = 1024  # insights and drafts that may be taken up again
_TAIL = 8  # tokens at a prompt's end among which a template opens a thinking block
_HALF = "\N{REPLACEMENT CHARACTER}"  # of a character

Key = tuple[tuple[Message, ...], str]


class Written:
    """The exact ids of insights and drafts that a model was writing, by their text: written anew, they may differ."""

    def __init__(self) -> None:
        self._ids: OrderedDict[Key, array[int]] = OrderedDict()

    def keep(self, request: Request, text: str, ids: array[int] | None) -> None:
        if ids is not None and request.may_be_cut and request.raw is None and not isinstance(request.prefix, tuple):
            self._ids[request.messages, (request.prefix or "") + text] = ids
            if len(self._ids) > _KEPT:
                self._ids.popitem(last=False)

    def find(self, request: Request) -> array[int] | None:
        return self._ids.get((request.messages, request.prefix)) if isinstance(request.prefix, str) else None


async def prompt_ids(
    endpoint: Endpoint, request: Request, known: Sequence[int] | None = None
) -> tuple[list[int], Sequence[int]]:
    """Return the ids of a request's messages by the chat template, and those of its prefix behind them.

    `known` are ids that may be the prefix's. Ids count only where they read as the very text: those of a stream run
    ahead of it where a character is not complete or the beginning of a stop string is held back, and a thinking
    block's end may be among them without its text. Raises UsageError for a prefix that ends within a character: vLLM
    would repeat the prompt.
    """
    template, opened = await template_ids(endpoint, request.messages)
    prefix = request.prefix or ""
    if not isinstance(prefix, str):
        if (await text_of_ids(endpoint, prefix)).endswith(_HALF):
            raise UsageError("the token ids of the answer's beginning end within a character")
        return template, prefix
    if opened:
        prefix = prefix.removeprefix(OPENS)
    if known is not None and await text_of_ids(endpoint, known) == prefix:
        return template, known
    return template, await ids_of_text(endpoint, prefix)


async def joins(endpoint: Endpoint, messages: tuple[Message, ...], text: str) -> bool:
    """Return whether the ids of a text behind those of a template read as the two (some tokenizers add a space)."""
    template, _ = await template_ids(endpoint, messages)
    written = await ids_of_text(endpoint, text)
    return await text_of_ids(endpoint, [*template, *written]) == await text_of_ids(endpoint, template) + text


async def template_ids(endpoint: Endpoint, messages: tuple[Message, ...]) -> tuple[list[int], bool | None]:
    """Return the ids of the messages with the beginning of an answer, and whether that opens a thinking block.

    None: the server does not tell.
    """
    body = {
        "messages": wire_messages(messages),
        "add_generation_prompt": True,
        "return_token_strs": True,
    }
    answer = await _asked(endpoint, "/tokenize", body, "tokens")
    strings = answer.get("token_strs")
    return answer["tokens"], is_open("".join(map(str, strings[-_TAIL:]))) if strings else None


async def ids_of_text(endpoint: Endpoint, text: str, *, special: bool = False) -> list[int]:
    if not text and not special:
        return []
    answer = await _asked(endpoint, "/tokenize", {"prompt": text, "add_special_tokens": special}, "tokens")
    return list(answer["tokens"])


async def text_of_ids(endpoint: Endpoint, ids: Sequence[int]) -> str:
    return str((await _asked(endpoint, "/detokenize", {"tokens": list(ids)}, "prompt"))["prompt"]) if ids else ""


async def _asked(endpoint: Endpoint, path: str, body: dict[str, Any], field: str) -> dict[str, Any]:
    answer = await endpoint.beside(path, {"model": endpoint.origin.model, **body})
    if not isinstance(answer, dict) or field not in answer:
        raise Failure(f"{endpoint.origin.where} answers {path} without {field}", status=501)
    return answer
