"""Thinking aloud: what a model writes between <think> and </think> is no part of its answer.

Many chat templates open the thought, so that the model's own text begins within it and only closes it.
"""

from __future__ import annotations

from collections.abc import Iterator

OPENS, CLOSES = "<think>", "</think>"


def after_thinking(text: str) -> str:
    """Return what follows the last thinking block; nothing if that never closes."""
    answer = text.rpartition(CLOSES)[2]
    return "" if OPENS in answer else answer


def is_open(text: str, otherwise: bool = False) -> bool:
    """Whether a text ends within its thought; `otherwise` for one that neither opens nor closes any."""
    opened, closed = text.rfind(OPENS), text.rfind(CLOSES)
    return otherwise if opened == closed else opened > closed


def as_thought(text: str) -> str:
    """Return a text that was cut within a thought which its prompt had opened: with the tag, where it has none."""
    return text if OPENS in text or CLOSES in text else OPENS + text


def split_thinking(text: str) -> tuple[str, str]:
    """Return a text's thoughts and what stands outside of them, both without tags and the space behind a tag.

    What stands before a first </think> is a thought, too.
    """
    head, closes, _ = text.partition(CLOSES)
    splitter = ThinkingSplitter(within=bool(closes) and OPENS not in head)
    parts: dict[bool, list[str]] = {True: [], False: []}
    for thought, piece in (*splitter.feed(text), *splitter.close()):
        parts[thought].append(piece)
    return "".join(parts[True]), "".join(parts[False])


class ThinkingSplitter:
    """Tells thoughts from answer while a text arrives, for any chunking; the space behind a tag is dropped.

    `within`: the text begins in a thought; it may open it once more.
    """

    def __init__(self, *, within: bool = False) -> None:
        self._within = within
        self._fresh = within  # nothing of the thought or of the answer behind it has come
        self._start = True  # nothing at all has come
        self._held = ""  # the end of what came, which may be the beginning of a tag

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """Yield (whether it is thought, text) pieces."""
        self._held += text
        while self._held:
            tag = CLOSES if self._within else OPENS
            if self._within and self._start and self._reopens():
                if len(self._held.lstrip()) < len(OPENS):
                    return
                self._held = self._held.lstrip()[len(OPENS) :]
                self._start = False
                continue
            before, found, behind = self._held.partition(tag)
            if not found:
                kept = overlap(before, tag)
                before, self._held = before[: len(before) - kept], before[len(before) - kept :]
                yield from self._piece(before)
                return
            yield from self._piece(before)
            self._within, self._fresh, self._start, self._held = not self._within, True, False, behind

    def close(self) -> Iterator[tuple[bool, str]]:
        """Yield what was held back."""
        held, self._held = self._held, ""
        yield from self._piece(held)

    def _reopens(self) -> bool:
        begun = self._held.lstrip()
        return begun.startswith(OPENS) or OPENS.startswith(begun)

    def _piece(self, text: str) -> Iterator[tuple[bool, str]]:
        text = text.lstrip() if self._fresh else text
        if text:
            self._fresh = self._start = False
            yield self._within, text


def overlap(text: str, tag: str) -> int:
    """Return how many characters at the text's end may begin the tag."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:size])), 0)
