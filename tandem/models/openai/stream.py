"""From the bytes of a streamed chat, or completion, to deltas. Lines are parsed with `json`: no object per chunk."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem.errors import CapabilityError
from tandem.ledger import Usage
from tandem.models.base import Delta, FinishReason
from tandem.models.logprobs import FLOOR, TokenStat, token_stat
from tandem.models.openai.errors import Failure, Origin, from_status, status_of
from tandem.models.openai.usage import reported_usage, token_count
from tandem.thinking import OPENS, is_open
from tandem.tools import ToolUse, write_call
from tandem.types import ScoredToken

_LENGTH = {"length", "max_tokens", "model_length"}
_REFUSED = {"content_filter", "refusal", "safety"}
_BROKEN = {"error", "abort"}
_QUIET = (b":", b"event:", b"id:", b"retry:")
_LONGEST = 8 << 20  # bytes of a body that is no stream
_HOLES = 8  # tokens without log-probabilities that any answer may have


class StreamReader:
    """The state of one stream. `feed` it bytes as they come, then ask for `usage` and `finish` at its end.

    The thinking that a server sends apart from the content is put in front of it as `<think>…</think>`; a thinking
    block that the answer's prefix has left open is not opened again. `inside`: that block came apart too, and the
    stream goes on within it. `opened`: the template has opened the block, and the answer is given its tag. The
    fragments of calls of `tools` are held back; the calls are there at the end.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        vocabulary: int | None,
        logprobs: int,  # how many were asked for at each token
        prefix: str = "",
        inside: bool = False,
        opened: bool = False,
        tools: ToolUse | None = None,
        scored: bool = False,  # each token is wanted as text, too
    ) -> None:
        self.tokens = 0
        self.held = 0  # of them in fragments of calls
        self.held_stats: list[TokenStat] = []
        self.started = False  # something of the answer has come
        self.done = False  # the server announced the end
        self.reported = False  # `usage` is that of the whole answer
        self.ids: array[int] | None = array("i")  # of all tokens that came; None: the server does not give them
        self.inside = inside  # in a thinking block that comes apart from the content
        self._origin = origin
        self._vocabulary = vocabulary
        self._logprobs = logprobs
        self._rest = b""
        self._prompt: int | None = None  # tokens, where the server gave their ids
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._continuous = False
        self._reported = 0  # completion tokens by the last usage report of a chunk
        self._called = StreamedCalls(parallel=tools.parallel) if tools else None
        self._scored = scored
        self._measured = self._holes = 0  # tokens with log-probabilities, and without
        self._other: list[bytes] = []  # what came that is no event, for the end
        self._open = is_open(prefix)
        self._opened = opened  # and nothing has come yet

    def feed(self, data: bytes) -> Iterator[Delta]:
        """Yield the deltas that `data` completes; raises Failure for an error event or broken JSON."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                if (delta := self._event(line[5:])) is not None:
                    self.started = True
                    yield delta
            elif line.strip() and not line.startswith(_QUIET) and sum(map(len, self._other)) < _LONGEST:
                self._other.append(line)

    def end(self) -> Iterator[Delta]:
        """Yield what the end of the body completes: a last line without its line end, an answer that is no stream.

        Raises Failure with the server's own words for an error or a page that came with status 200.
        """
        yield from self.feed(b"\n")
        if self.started or self.done or not self._other:
            return
        body = b"\n".join(self._other).decode("utf-8", "replace").strip()
        try:
            whole = json.loads(body)
        except ValueError:
            page = " ".join(re.sub(r"<[^>]*>", " ", body).split())[:120]
            words = f"{self._origin.where} answered with something that is no stream: {page}"
            raise Failure(f"{words}; is its address right (it ends in /v1)?", free=True) from None
        if not isinstance(whole, dict) or not whole.get("choices"):
            raise from_status(
                self._origin,
                status_of((whole or {}).get("error", whole) if isinstance(whole, dict) else None),
                whole,
                free=True,
            )
        if (delta := self._event(body.encode())) is not None:
            self.started = True
            yield delta
        self.reported = self._usage is not None

    def finish(self, broken: Failure | None = None) -> FinishReason:
        """Return why the stream ended, whatever came after that; raises Failure for a refusal or a giving up.

        One that did not end fails with `broken`, or because it just broke off.
        """
        where, reason = f"'{self._origin.model}' at {self._origin.where}", self._finish
        whole = self._called is None or self._called.whole
        if reason is None and self.started and self.done and broken is None and whole:
            return "stop"  # it ended, and some servers do not say why
        if reason is None:
            raise broken or Failure(
                f"{where} {'ended early' if self.started else 'sent an empty answer'}", retryable=True
            )
        if reason in _REFUSED:
            raise Failure(f"{where} refused to answer ({reason})", refused=True)
        if reason in _BROKEN:
            raise Failure(f"{where} gave up ({reason})", retryable=True)
        return "length" if reason in _LENGTH else "stop"

    @property
    def explained(self) -> bool:
        """Whether the server gave a reason for the end."""
        return self._finish is not None

    @property
    def usage(self) -> Usage | None:
        """The usage as the server last reported it, or as counted by its token ids."""
        if self._usage is not None:
            return reported_usage(self._usage)
        return None if self._prompt is None else Usage(prompt=self._prompt, completion=self.tokens, source="counted")

    @property
    def call(self) -> str:
        """The calls in their textual form, as far as they came; empty where there is none."""
        text = self._called.text if self._called else ""
        return f"</think>{text}" if text and self.inside else text

    def _event(self, payload: bytes) -> Delta | None:
        try:
            chunk = json.loads(payload)
        except ValueError:
            if payload.strip() == b"[DONE]":
                self.done = True
                self.reported = self._usage is not None
                return None
            chunk = None
        if not isinstance(chunk, dict):
            raise Failure(f"{self._origin.where} sent a broken chunk", retryable=True)
        if error := chunk.get("error"):
            raise from_status(self._origin, status_of(error), error)
        usage = chunk.get("usage")
        usage = usage if isinstance(usage, dict) else None
        choices = chunk.get("choices")
        if usage:
            self._usage = usage
            self.reported = not choices or bool(choices[0].get("finish_reason"))
        if not choices:
            return None
        choice = choices[0]
        delta = choice.get("delta") or choice.get("message") or {}
        given = chunk.get("prompt_token_ids") or choice.get("prompt_token_ids")
        if given:
            self._prompt = len(given)
        finish = choice.get("finish_reason")
        self._end(finish, refused=bool(delta.get("refusal")))
        thinking, content = _parts(delta.get("content") or choice.get("text") or "")
        text = self._join(delta.get("reasoning_content") or delta.get("reasoning") or thinking, content)
        called = self._called is not None and self._called.take(delta.get("tool_calls"))
        ids = choice.get("token_ids")
        if ids and self.ids is not None:
            self.ids.extend(ids)
        elif (text or called) and not ids:
            self.ids = None
        logprobs = choice.get("logprobs")
        given_stats = self._stats(logprobs) if logprobs and self._logprobs else []
        stats = [stat for stat in given_stats if stat is not None]
        scored = scored_tokens(logprobs) if logprobs and self._scored else ()
        counted = self._count(bool(text) or called, ids, usage, finish)
        tokens = len(given_stats) or counted
        if called and not text:
            self.tokens, self.held, self.started = self.tokens + tokens, self.held + tokens, True
            self.held_stats += stats
            return None
        if not text and not tokens:
            return None
        self.tokens += tokens
        if self._logprobs and content:
            self._need(tokens, len(stats), some=bool(logprobs))
        # A cut stream never sees the last report: the prompt's size goes out with the first delta.
        early = self.usage if not self.started and (self._continuous or self._prompt is not None) else None
        return Delta(text, tokens, stats, None, early, scored=scored)

    def _need(self, tokens: int, stats: int, *, some: bool) -> None:
        """Count the tokens without log-probabilities; raises CapabilityError where there are none, or too few."""
        where = f"'{self._origin.model}' at {self._origin.where}"
        self._measured += stats
        self._holes += max(tokens - stats, 0)
        if not (self._measured or some):
            raise CapabilityError(f"{where} sends no log-probabilities")
        if self._holes > max(_HOLES, self._measured / 4):
            raise CapabilityError(f"{where} leaves out the log-probabilities of {self._holes} of {self.tokens} tokens")

    def _end(self, finish: str | None, *, refused: bool) -> None:
        if refused or (finish and self._finish not in _REFUSED):
            self._finish = finish if finish in _REFUSED else "refusal" if refused else finish

    def _count(self, some: bool, ids: list[int] | None, usage: dict[str, Any] | None, finish: str | None) -> int:
        """Return the chunk's number of tokens: by their ids, by the usage, or one a chunk."""
        if usage and (self._continuous or not finish):
            self._continuous = True
            total = token_count(usage, "completion_tokens", "output_tokens")
            new, self._reported = total - self._reported, total
        else:
            new = 1 if some else 0
        return max(new, 0) if ids is None else len(ids)

    def _stats(self, logprobs: dict[str, Any]) -> list[TokenStat | None]:
        """Return the statistics of each token; None for one whose log-probabilities are not all there."""
        if chat := logprobs.get("content"):
            return [self._stat(t.get("logprob"), [o.get("logprob") for o in t.get("top_logprobs") or ()]) for t in chat]
        own = logprobs.get("token_logprobs") or []
        tops = logprobs.get("top_logprobs") or [None] * len(own)
        # The token drawn comes along where it is not among the k likeliest: it is not one of them.
        return [self._stat(value, _likeliest(top, self._logprobs)) for value, top in zip(own, tops, strict=False)]

    def _stat(self, own: Any, top: list[Any]) -> TokenStat | None:
        try:
            hole = not top or math.isnan(own + sum(top))  # for every token: one sum finds what is missing
        except TypeError:
            return None
        return None if hole else token_stat(own, top, self._vocabulary)

    def _join(self, thinking: str, content: str) -> str:
        if self._opened and (thinking or content):
            self._opened = False
            if not thinking and not content.lstrip().startswith(OPENS):
                content, self._open = OPENS + content, True
        if thinking:
            if not self._open:
                thinking, self._open = "<think>" + thinking, True
            self.inside = True
        if content and self.inside:
            self.inside = self._open = False
            return f"{thinking}</think>{content}"
        return thinking + content


def scored_tokens(logprobs: dict[str, Any]) -> list[ScoredToken]:
    """Return the tokens of a chunk as text, in either form; those without a log-probability are left out."""
    if chat := logprobs.get("content"):
        found = [_scored(token, token.get("top_logprobs") or ()) for token in chat]
    else:
        texts, own = logprobs.get("tokens") or [], logprobs.get("token_logprobs") or []
        tops = logprobs.get("top_logprobs") or [None] * len(texts)
        found = [
            _scored(
                {"token": text, "logprob": value},
                [{"token": other, "logprob": its} for other, its in top.items()] if isinstance(top, dict) else (),
            )
            for text, value, top in zip(texts, own, tops, strict=False)
        ]
    return [token for token in found if token is not None]


def _scored(token: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> ScoredToken | None:
    text, logprob, raw = token.get("token"), token.get("logprob"), token.get("bytes")
    if not isinstance(text, str) or not isinstance(logprob, int | float) or math.isnan(logprob):
        return None
    top = [one for one in (_scored(other, ()) for other in others) if one is not None]
    top.sort(key=lambda one: -(one.logprob or 0.0))
    whole = isinstance(raw, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in raw)
    return ScoredToken(text, max(logprob, FLOOR), tuple(top), bytes(raw) if whole and raw else None)


def _parts(content: object) -> tuple[str, str]:
    """Return the thinking and the text of a content that may come in parts."""
    if not isinstance(content, list):
        return "", content if isinstance(content, str) else ""
    thinking, text = "", ""
    for part in content:
        if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("reasoning") or part.get("text") or ""
            thinking += inner if isinstance(inner, str) else "".join(_parts(inner))
        elif isinstance(part, dict):
            text += str(part.get("text") or "")
        else:
            text += str(part)
    return thinking, text


def _likeliest(top: object, count: int) -> list[Any]:
    values = [value for value in top.values() if isinstance(value, (int, float))] if isinstance(top, dict) else []
    return sorted(values, reverse=True)[:count]


@dataclass(slots=True)
class _StreamedCall:
    place: int
    id: object
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class StreamedCalls:
    """The calls in a stream: a name comes once, arguments in pieces. Without `parallel` only the first call is kept."""

    def __init__(self, *, parallel: bool) -> None:
        self._parallel = parallel
        self._calls: list[_StreamedCall] = []

    @property
    def text(self) -> str:
        return "".join(write_call(call.name, "".join(call.arguments)) for call in self._kept)

    @property
    def _kept(self) -> list[_StreamedCall]:
        return self._calls if self._parallel else self._calls[:1]

    @property
    def whole(self) -> bool:
        """Whether the arguments are whole, as far as any came."""
        try:
            for call in self._kept:
                json.loads("".join(call.arguments) or "{}")
        except ValueError:
            return False
        return True

    def take(self, fragments: Any) -> bool:
        found = [part for part in fragments if isinstance(part, dict)] if isinstance(fragments, list) else []
        for part in found:
            call = self._of(part.get("index") or 0, part.get("id"))
            function = part.get("function")
            if isinstance(function, dict):
                call.name = call.name or str(function.get("name") or "")
                if arguments := function.get("arguments"):
                    call.arguments.append(arguments if isinstance(arguments, str) else json.dumps(arguments))
        return bool(found)

    def _of(self, place: Any, id: Any) -> _StreamedCall:
        """Return the call that a fragment is of: some servers give every call the same place, but an id of its own."""
        for call in reversed(self._calls):
            if call.place == place and id in (None, "", call.id):
                return call
        self._calls.append(_StreamedCall(place, id))
        return self._calls[-1]
