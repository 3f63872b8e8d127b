"""Figures of a run: computed from its records alone, never from what a process remembers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tandem.ledger import Ledger

_Z95 = 1.959963984540054


def wilson(right: int, n: int) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval of a share (None for n = 0)."""
    if n == 0:
        return None
    p, z2 = right / n, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The ends are exact for none and for all; rounding would leave a trace there.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def summarise(records: Sequence[Mapping[str, Any]], classifier: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the summary of a run. Errors count as wrong; accuracy is None if no problem has a reference.

    Tokens, TFLOPs and US$ are sums over all records; `seconds` is the sum of the problems' own times.
    """
    graded = [r for r in records if r["correct"] is not None]
    right = sum(bool(r["correct"]) for r in graded)
    ledger = Ledger()
    for record in records:
        ledger.entries.extend(Ledger.model_validate(record["ledger"]).entries)
    interval = wilson(right, len(graded))
    return {
        "n": len(records),
        "accuracy": right / len(graded) if graded else None,
        "accuracy_ci95": list(interval) if interval else None,
        "mentor_tokens": ledger.mentor_tokens,
        "intern_tokens": ledger.intern_tokens,
        "probe_tokens": ledger.probe_tokens,
        "tflops": ledger.tflops,
        "tflops_assumed": ledger.assumed,
        "tflops_published": ledger.tflops_published,
        "usd": ledger.usd,
        "seconds": sum(r["seconds"] for r in records),
        "levels": dict(Counter(r["level"] for r in records if r["level"])),
        "truncated": {
            role: sum(bool(r["truncated"]) and r["answered_by"] == role for r in records)
            for role in ("mentor", "intern")
        },
        "errors": sum(r["error"] is not None for r in records),
        "classifier": dict(classifier) if classifier else None,
        "synthetic": any(r["synthetic"] for r in records),
    }
