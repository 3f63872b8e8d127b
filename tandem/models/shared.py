"""Calls shared by several strategies are made once: a longer or richer answer serves a smaller request.

For comparisons. A request is served from a recorded call with the same model, messages, prefix and sampling if that
contains at least as much: the mentor's whole answer gives the hint of its first 60 tokens, and an answer with
log-probabilities one without. Each use is charged as if the model had been called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tandem.ledger import Entry, Role
from tandem.models.base import Model, Request
from tandem.models.cache import ResponseCache, keep_answer, read_answer
from tandem.models.recorded import Piece, Recorded


class SharedCalls(ResponseCache):
    def __init__(self, folder: Path) -> None:
        """Raises TandemError if the folder cannot be made."""
        super().__init__(folder)
        self._asked: dict[Path, asyncio.Future[None]] = {}

    def find(self, model: Model, request: Request, occurrence: int) -> Recorded | None:
        found = _read(self.path(model, request, occurrence))
        if found is None:
            return None
        kept, top = found
        if not request.top_logprobs:
            kept = replace(kept, stats=(), pieces=tuple(replace(piece, stats=0) for piece in kept.pieces))
        elif top != request.top_logprobs or not kept.stats:
            return None
        if kept.finish_reason == "stop" and kept.tokens <= request.max_tokens:
            return kept
        return beginning(kept, request.max_tokens, model.cut) if kept.tokens >= request.max_tokens else None

    async def turn(self, model: Model, request: Request, occurrence: int) -> None:
        path = self.path(model, request, occurrence)
        while (asked := self._asked.get(path)) is not None:
            await asyncio.shield(asked)

    async def open(self, model: Model, request: Request, role: Role, occurrence: int) -> None:
        self._asked.setdefault(self.path(model, request, occurrence), asyncio.get_running_loop().create_future())

    def close(
        self, number: str | None, model: Model, request: Request, occurrence: int, entry: Entry, given: Recorded | None
    ) -> None:
        """Store the output, even of a cut call, unless a longer one is stored. A full disk loses only the entry."""
        path = self.path(model, request, occurrence)
        if (asked := self._asked.pop(path, None)) is not None:
            asked.set_result(None)
        if given is None or given.finish_reason == "error" or not given.tokens:
            return
        before = _read(path)
        if before is not None and _worth(before[0]) >= _worth(given):
            return
        row = replace(given, entry=None).row() | {"top": request.top_logprobs or 0}
        keep_answer(path, row)

    def path(self, model: Model, request: Request, occurrence: int) -> Path:
        """Return the file of a request: purpose, cap and log-probabilities do not change the text."""
        return super().path(model, replace(request, purpose="answer", max_tokens=1, top_logprobs=None), occurrence)


def _read(path: Path) -> tuple[Recorded, int] | None:
    found = read_answer(path)
    return found and (found[0], int(found[1].get("top", 0)))


def beginning(whole: Recorded, tokens: int, cut: Callable[[str, int], str]) -> Recorded:
    """Return the first `tokens` tokens of a recorded call, ended as by its cap.

    `cut` is the model's: an estimate if the end is inside a chunk of several tokens.
    """
    pieces: list[Piece] = []
    at = left = stats = 0
    left = tokens
    for piece in whole.pieces:
        if not left:
            break
        taken = piece
        if piece.tokens > left:
            text = cut(whole.text[at : at + piece.characters], left)
            taken = Piece(len(text), left, min(left, piece.stats))
        pieces.append(taken)
        at, left, stats = at + taken.characters, left - taken.tokens, stats + taken.stats
    share = tokens / whole.tokens
    return Recorded(
        whole.text[:at],
        tuple(pieces),
        whole.stats[:stats],
        "length",
        whole.usage.model_copy(
            update={"completion": tokens, "reasoning": min(whole.usage.reasoning, tokens), "completion_bound": None}
        ),
        seconds=None if whole.seconds is None else whole.seconds * share,
    )


def _worth(recorded: Recorded) -> tuple[bool, int, int]:
    return recorded.finish_reason == "stop", recorded.tokens, len(recorded.stats)
