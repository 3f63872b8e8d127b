"""A recorded call that can be replayed: by a resumed run, or by the response cache."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tandem.ledger import Entry, Usage
from tandem.models.base import Delta, FinishReason, Request
from tandem.models.logprobs import PLACES, TokenStat
from tandem.types import Message

_SCALE = 10**PLACES


@dataclass(frozen=True, slots=True)
class Piece:
    characters: int
    tokens: int
    stats: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The text of one call in its original pieces. Without a `finish_reason` it was cut by its reader.

    `entry` is its ledger entry; None in the response cache, which charges each use. `seconds` is its duration, if that
    is to be charged too.
    """

    text: str
    pieces: tuple[Piece, ...]
    stats: tuple[TokenStat, ...]
    finish_reason: FinishReason | None
    usage: Usage
    entry: Entry | None = None
    seconds: float | None = None

    @property
    def tokens(self) -> int:
        return sum(piece.tokens for piece in self.pieces)

    def deltas(self) -> Iterator[Delta]:
        """Yield the original deltas; the last one of a finished call carries finish reason and usage."""
        at = stat = 0
        for piece in self.pieces:
            text = self.text[at : at + piece.characters]
            yield Delta(text, piece.tokens, self.stats[stat : stat + piece.stats])
            at, stat = at + piece.characters, stat + piece.stats
        if self.finish_reason is not None:
            yield Delta(finish_reason=self.finish_reason, usage=self.usage)

    def row(self) -> dict[str, Any]:
        flat = [number for p in self.pieces for number in (p.characters, p.tokens, p.stats)]
        return {
            "text": self.text,
            "pieces": _packed(np.array(flat, dtype="<i4")),
            "stats": _packed(np.rint(np.array(self.stats, dtype=float) * _SCALE).astype("<i4")) if self.stats else "",
            "finish": self.finish_reason,
            "usage": self.usage.model_dump(mode="json"),
            "seconds": self.seconds,
        }


def restored(row: dict[str, Any], entry: Entry | None = None) -> Recorded:
    """Read the output of `row`. Raises KeyError, ValueError or zlib.error for an invalid one."""
    flat = _unpacked(row["pieces"]).reshape(-1, 3).tolist()
    stats = _unpacked(row["stats"]).reshape(-1, 4).tolist() if row["stats"] else []
    return Recorded(
        text=row["text"],
        pieces=tuple(Piece(*numbers) for numbers in flat),
        stats=tuple(TokenStat(*(number / _SCALE for number in numbers)) for numbers in stats),
        finish_reason=row["finish"],
        usage=Usage.model_validate(row["usage"]),
        entry=entry,
        seconds=row.get("seconds"),
    )


def digest(model: str, request: Request) -> str:
    """Return the digest of everything that decides the output of `request` to `model`; `affinity` does not."""
    prefix = request.prefix if request.prefix is None or isinstance(request.prefix, str) else list(request.prefix)
    content = [
        model,
        [_identity(message) for message in request.messages],
        request.purpose,
        request.max_tokens,
        request.sampling.model_dump(mode="json"),
        prefix,
        request.top_logprobs,
    ]
    if request.tools is not None:  # one without keeps the digest that it had before there were tools
        content.append(request.tools.identity)
    if request.response_format is not None:
        content.append({"response_format": request.response_format.openai})
    if request.alternatives is not None:
        content.append({"alternatives": request.alternatives})
    if request.raw is not None:
        content.append({"raw": request.raw})
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _identity(message: Message) -> list[Any]:
    plain: list[Any] = [message.role, message.content]
    called = [call.model_dump() for call in message.tool_calls]
    return [*plain, called, message.tool_call_id] if called or message.tool_call_id else plain


def _packed(numbers: Any) -> str:
    return base64.b64encode(zlib.compress(numbers.tobytes(), level=1)).decode()


def _unpacked(text: str) -> Any:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i4")
