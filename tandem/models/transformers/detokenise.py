"""Streaming detokenisation: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tandem.thinking import overlap

_HALF = "\ufffd"  # what decoders put for bytes that are not a whole character yet
_CONTEXT = 8  # tokens of the prompt that decide how the first new token is written (leading spaces, half characters)


class Detokeniser:
    """Turns one answer's tokens into text.

    Text that may be the beginning of a stop string is held back until that is settled. `stopped` says that a stop
    string was met; it and what follows it are never given out.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        """`decode` turns ids into text, leaving out special tokens; `prompt` are the ids before the answer."""
        self.stopped = False
        self._decode = decode
        self._stop = [s for s in stop if s]
        self._ids = list(prompt[-_CONTEXT:])
        self._known = len(self._ids)  # ids already turned into text (returned or held back)
        self._held = ""

    def push(self, token: int) -> str:
        """Return the text that `token` makes certain; may be empty."""
        self._ids.append(token)
        known, text = self._decode(self._ids[: self._known]), self._decode(self._ids)
        whole = known.rstrip(_HALF)
        if len(text) <= len(whole) or text.endswith(_HALF):
            return ""
        if whole == known:  # else the prompt ended within a character, which the next text must not begin with
            del self._ids[: self._known]
        self._known = len(self._ids)
        return self._release(text[len(whole) :])

    def flush(self) -> str:
        """Return the text held back for a stop string that did not follow; an incomplete character is dropped."""
        known, text = (self._decode(ids).rstrip(_HALF) for ids in (self._ids[: self._known], self._ids))
        return self._release(text[len(known) :]) + self._take(0)

    def _release(self, text: str) -> str:
        self._held += text
        found = [at for at in (self._held.find(s) for s in self._stop) if at >= 0]
        if found:
            self.stopped = True
            before, self._held = self._held[: min(found)], ""
            return before
        return self._take(max((overlap(self._held, s) for s in self._stop), default=0))

    def _take(self, keep: int) -> str:
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out
