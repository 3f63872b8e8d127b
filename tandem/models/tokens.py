"""Token counts for a remote model: by its own tokenizer, by tiktoken's, or estimated."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

_CHARACTERS = 4  # a token, on average, in English text

Cutter = Callable[[str, int], str]
Counter = Callable[[str], int]


class TokenCounter:
    """Counts and cuts by `tokenizer_path` (a tokenizer.json or its folder) if given; else by tiktoken where the
    model's encoding is on disk already (nothing is ever downloaded); else a token is taken for 4 characters.
    """

    def __init__(self, model: str, tokenizer_path: Path | None) -> None:
        self._model = model
        self._path = tokenizer_path

    def count(self, text: str) -> int:
        return self._functions[0](text)

    def cut(self, text: str, tokens: int) -> str:
        if tokens <= 0:
            return ""
        count, cut = self._functions
        head, allowed = cut(text, tokens), tokens
        # A prefix may have more tokens alone than as a part of the whole text.
        while allowed > 1 and count(head) > tokens:
            allowed -= 1
            head = cut(text, allowed)
        return head

    @functools.cached_property
    def _functions(self) -> tuple[Counter, Cutter]:
        if self._path is not None:
            return _by_tokenizer(self._path)
        return _by_tiktoken(self._model) or (_estimated_count, _estimated_cut)


@functools.lru_cache(maxsize=8)  # the replicas of a pool share one
def _by_tokenizer(path: Path) -> tuple[Counter, Cutter]:
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    def cut(text: str, tokens: int) -> str:
        spans = tokenizer.encode(text, add_special_tokens=False).offsets
        if len(spans) <= tokens:
            return text
        # The next token may begin inside the character that the last one ends: that character is left out.
        return text[: min(spans[tokens - 1][1], spans[tokens][0])]

    return count, cut


def _by_tiktoken(model: str) -> tuple[Counter, Cutter] | None:
    try:
        import tiktoken

        with patch("tiktoken.load.read_file", _no_download):
            try:
                encoding = tiktoken.encoding_for_model(model.rpartition("/")[2])
            except KeyError:
                encoding = tiktoken.get_encoding("o200k_base")
    except Exception:  # not installed, not in its cache, or unknown internals: an estimate is good enough
        return None

    def count(text: str) -> int:
        return len(encoding.encode_ordinary(text))

    def cut(text: str, tokens: int) -> str:
        return encoding.decode_bytes(encoding.encode_ordinary(text)[:tokens]).decode("utf-8", errors="ignore")

    return count, cut


def _no_download(path: str) -> bytes:
    raise OSError(f"{path} is not in tiktoken's cache")


def _estimated_count(text: str) -> int:
    return math.ceil(len(text) / _CHARACTERS)


def _estimated_cut(text: str, tokens: int) -> str:
    limit = tokens * _CHARACTERS
    if len(text) <= limit:
        return text
    end = limit if text[limit].isspace() else max(text.rfind(" ", 0, limit), text.rfind("\n", 0, limit))
    return text[: end if end > 0 else limit]
