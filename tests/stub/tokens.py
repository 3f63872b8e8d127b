"""A tokenizer and a chat template for the server: every piece of text that it meets gets the next id."""

from __future__ import annotations

import re
from typing import Any

_PIECE = re.compile(r"</?think>|<\|\w+\|>| ?\w+|.", re.DOTALL)


class Tokenizer:
    """Splits text into words; a piece that the server wrote has an id of its own, however it would be split.

    The template is that of a thinking family: earlier answers lose their thinking, and where it `opens`, a new answer
    begins within a thinking block. `spaced`: it puts a space before every text, as some do.
    """

    def __init__(self, *, opens: bool = False, spaced: bool = False) -> None:
        self.opens = opens
        self.spaced = spaced
        self._ids: dict[str, int] = {}
        self._pieces: list[str] = []

    def of(self, piece: str) -> int:
        """Return the id of one piece."""
        if piece not in self._ids:
            self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
        return self._ids[piece]

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return [self.of(piece) for piece in _PIECE.findall(f" {text}" if self.spaced else text)]

    def text(self, ids: list[int]) -> str:
        """Return what ids read as."""
        return "".join(self._pieces[i] for i in ids)

    def template(self, messages: list[dict[str, Any]], *, continued: bool = False) -> str:
        """Return the prompt of a chat, which ends with the last message or with the beginning of an answer."""
        text = "".join(f"<|{m['role']}|>{m['content'].rpartition('</think>')[2]}" for m in messages)
        return text if continued else f"{text}<|assistant|>" + ("<think>\n" if self.opens else "")

    def serve(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer /tokenize or /detokenize as vLLM does."""
        if path == "/detokenize":
            return {"prompt": self.text(body["tokens"])}
        ids = self.ids(self.template(body["messages"]) if "messages" in body else body["prompt"])
        return {"tokens": ids, "token_strs": [self.text([i]) for i in ids] if body.get("return_token_strs") else None}
