"""The mentor's texts, saved while they stream: a kill loses only the last few tokens, and none is generated twice.

A text is saved in pieces, one line each: ``from`` is the number of tokens before it, so that a missing or repeated line
is noticed; the last one has the counts. If the mentor cannot continue its own text, only complete texts are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tandem.collection.plan import Source
from tandem.collection.rows import files, read_row, shard_file
from tandem.insight import Insight
from tandem.storage.jsonl import JsonlWriter, decode, read_lines, scan

CHECKPOINT = 4  # stream pieces per line: the most that a kill can lose of a text


@dataclass(slots=True)
class MentorText:
    """A text of the mentor, possibly partial; complete once it has `counts`."""

    insight: Insight = field(default_factory=Insight)
    counts: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return self.insight.text


class Texts:
    """The mentor's texts of a collection, by problem and source; `begun` is the prefix that it was given, if any."""

    def __init__(self, folder: Path, shard: int | None = None) -> None:
        self._writer = JsonlWriter(shard_file(folder, "texts", shard))
        self._places: dict[tuple[str, str], list[tuple[Path, int]]] = {}
        for path in files(folder, "texts"):
            for line in scan(path):
                try:
                    row = decode(line.raw)
                    self._places.setdefault((row["problem"], row["source"]), []).append((path, line.offset))
                except (ValueError, KeyError):
                    continue  # what follows in that text no longer fits, and is generated again

    @staticmethod
    def known(folder: Path) -> set[tuple[str, str]]:
        rows = (row for path in files(folder, "texts") for row in read_lines(path))
        return {(row["problem"], row["source"]) for row in rows if "counts" in row}

    def get(self, problem: str, source: Source, begun: str = "") -> MentorText:
        found = MentorText()
        found.insight.feed(begun, 0)
        rows = [row for at in self._places.get((problem, source), ()) if (row := read_row(*at)) is not None]
        for row in sorted(rows, key=lambda row: row["from"]):  # several workers may have written parts of it
            if row["from"] == found.insight.tokens and found.counts is None:
                for text, tokens in row["pieces"]:
                    found.insight.feed(text, tokens)
                found.counts = row.get("counts")
        found.insight.finished = found.counts is not None and not found.counts["truncated"]
        return found

    def write(self, row: dict[str, Any], *, sync: bool) -> None:
        offset = self._writer.write(row, sync=sync)
        self._places.setdefault((row["problem"], row["source"]), []).append((self._writer.path, offset))

    def close(self) -> None:
        self._writer.close()


class TextWriter:
    """Saves the pieces of a stream; `checkpoint` None: only complete texts are kept."""

    def __init__(self, texts: Texts, problem: str, source: Source, begins_at: int, checkpoint: int | None) -> None:
        self._checkpoint = checkpoint
        self._texts, self._head = texts, {"problem": problem, "source": source}
        self._from = begins_at
        self._pieces: list[tuple[str, int]] = []

    def add(self, text: str, tokens: int) -> None:
        self._pieces.append((text, tokens))
        if self._checkpoint and len(self._pieces) >= self._checkpoint:
            self.flush()

    def flush(self, counts: dict[str, Any] | None = None) -> None:
        """Write the pieces received since the last call; `counts`: the text is complete."""
        if self._pieces or counts is not None:
            row = self._head | {"from": self._from, "pieces": self._pieces}
            self._texts.write(row | ({} if counts is None else {"counts": counts}), sync=counts is not None)
            self._from += sum(tokens for _, tokens in self._pieces)
            self._pieces = []
