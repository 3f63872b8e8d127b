"""The table that may be committed: ids, signals, labels and counts, the same bytes in whatever order rows came."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tandem.errors import MissingPackageError
from tandem.models.logprobs import TokenStat
from tandem.storage.files import write_whole
from tandem.sufficiency.signals import draft_signals, question_signals

DRAFT_LENGTHS = (16, 32, 64, 128)
WHOLE = "all"
STAT_PLACES = 4
_SIGNAL_PLACES = 5
_PRIVATE = ("text", "insight", "stats")  # hold problem text, or answers to it, or are large
Row = dict[str, Any]


def signals_of(stats: Sequence[Sequence[float]], lengths: Iterable[int] = DRAFT_LENGTHS) -> dict[str, dict[str, float]]:
    """Return the signals of the drafts of every length, from each token's [logprob, entropy, gap, margin]."""
    tokens = [TokenStat(*stat) for stat in stats]
    found = {str(n): draft_signals(tokens[:n], ended=len(tokens) <= n) for n in lengths}
    found[WHOLE] = draft_signals(tokens, ended=True)
    return {n: rounded(own) for n, own in found.items()}


def rounded(signals: Mapping[str, float]) -> dict[str, float]:
    """Return signals as the table has them."""
    return {name: round(value, _SIGNAL_PLACES) for name, value in signals.items()}


def public(row: Row) -> Row:
    """Return a row without texts; the signals of its drafts are made anew from the tokens' statistics."""
    kept = {name: value for name, value in row.items() if name not in _PRIVATE}
    if "stats" in row:
        question = {"question": rounded(question_signals(row["question_tokens"]))}
        kept["signals"] = question | row.get("signals", {}) | signals_of(row["stats"])
    return kept


def export(rows: Iterable[Row], path: Path) -> int:
    """Write the table (gzipped JSON lines, sorted, a row for each key); return its row count."""
    table = _sorted(rows)
    body = "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in table)
    write_whole(path, gzip.compress(body.encode(), mtime=0), parents=True)
    return len(table)


def export_parquet(rows: Iterable[Row], path: Path) -> int:
    """Write the same table with flat columns (``signals.32.entropy_mean``), null where a row has none.

    Raises MissingPackageError without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError("a Parquet table", "parquet") from None
    table = [_flat({"sample": 0} | row) for row in _sorted(rows)]
    first = ("problem", "level", "sample", "correct")
    names = sorted({name for row in table for name in row}, key=lambda name: (name not in first, name))
    columns = {name: pyarrow.array([row.get(name) for row in table]) for name in names}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes(), parents=True)
    return len(table)


def _sorted(rows: Iterable[Row]) -> list[Row]:
    """Return the rows in order; of two with one key the first."""
    table: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        table.setdefault((row["problem"], row["level"], row.get("sample", 0)), public(row))
    return [table[key] for key in sorted(table)]


def _flat(row: Row, before: str = "") -> Row:
    found: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found
