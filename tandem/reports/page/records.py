"""One record as the page shows it: its mark, its cost, its texts cut to a length that a page can carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tandem.costs import published_rates
from tandem.ledger import sum_known
from tandem.runs.outcomes import LATENCY
from tandem.thinking import split_thinking

Record = Mapping[str, Any]
Shown = str | list[Any]

TOKENS = ("mentor_tokens", "intern_tokens", "probe_tokens")
HEAD, TAIL = 3000, 1500  # characters of a long text that are kept: answers end with what counts
_SHORT = 600


def number(value: Any) -> float | int | None:
    """Return a number that JSON can hold, five digits of it; None for what is none, infinite or not a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 2**53 else None
    return float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else None


def clipped(value: Any, head: int = HEAD, tail: int = TAIL) -> Shown:
    """Return a text; of a long one ``[its beginning, how many characters were cut, its end]``."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    over = len(text) - head - tail
    return text if over <= 0 else [text[:head], over, text[-tail:] if tail else ""]


def costs(record: Record) -> dict[str, float | int | None]:
    """Return what a record cost in each unit, and its tokens by role.

    The sums are those of `tandem.ledger.Ledger`, without building one for each of thousands of records.
    """
    entries = _entries(record)
    tokens = dict.fromkeys(TOKENS, 0)
    for entry in entries:
        written = _completion(entry)
        role = "mentor_tokens" if entry.get("role") == "mentor" else "intern_tokens"
        tokens[role] += written
        if role == "intern_tokens" and entry.get("purpose") == "probe":
            tokens["probe_tokens"] += written
    billed = (e.get("usd") for e in entries if not e.get("local", True) or e.get("usd") is not None)
    published = (_published(entry) for entry in entries if entry.get("purpose") != "probe")
    return {
        "usd": number(sum_known(billed)),
        "seconds": number(sum_known(entry.get("device_seconds") for entry in entries)),
        "tflops": number(sum_known(entry.get("tflops") for entry in entries)),
        "tflops_published": number(sum_known(published)),
        LATENCY: None if record.get("replayed") else number(record.get("seconds")),
        **tokens,
    }


def mark(record: Record | None) -> str:
    """Return one letter: r(ight), w(rong), e(rror), u(ngraded), - for no record; a capital if its answer was cut."""
    if record is None:
        return "-"
    if record.get("error") is not None:
        return "e"
    correct = record.get("correct")
    letter = "u" if correct is None else "r" if correct is True else "w"
    return letter.upper() if record.get("truncated") is True else letter


def detail(record: Record, keep: Callable[[Shown], int]) -> dict[str, Any]:
    """Return what an opened problem shows of one record. `keep` stores a long text and returns its number.

    What is empty is left out.
    """
    sections = record.get("sections")
    parts = (
        [[str(name)[:60], keep(clipped(text))] for name, text in sections.items()] if isinstance(sections, dict) else []
    )
    insight, (thinking, text) = record.get("insight"), split_thinking(str(record.get("text") or ""))
    found = {
        "answer": clipped(record.get("answer"), _SHORT, 0) if record.get("answer") is not None else None,
        "thinking": keep(clipped(thinking)) if thinking else None,
        "text": keep(clipped(text)) if text else None,
        "level": _short(record.get("level")),
        "by": _short(record.get("answered_by")),
        "sections": parts,
        "insight": keep(clipped(insight)) if insight and not parts else None,
        "trace": _trace(record),
        "error": clipped(record.get("error"), _SHORT, 0) if record.get("error") is not None else None,
        "cost": {unit: value for unit, value in costs(record).items() if value is not None},
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def accepted_sufficiency(record: Record) -> tuple[float, bool] | None:
    """Return the sufficiency on which a record's answer was accepted, and whether it was right; None without one."""
    decisions = record.get("trace")
    right = record.get("correct")
    if not isinstance(decisions, list) or not decisions or not isinstance(right, bool):
        return None
    last = decisions[-1] if isinstance(decisions[-1], dict) else {}
    found = number(last.get("sufficiency"))
    return None if found is None or last.get("action") != "stop" else (float(found), right)


def _trace(record: Record) -> list[list[Any]]:
    decisions = record.get("trace")
    return [
        [
            _short(one.get("level")),
            _short(one.get("action")),
            number(one.get("sufficiency")),
            number(one.get("threshold")),
            0 if one.get("calibrated") is False else 1,
            _short(one.get("reason"), 200),
            number(one.get("insight_tokens")),
        ]
        for one in (decisions if isinstance(decisions, list) else [])
        if isinstance(one, dict)
    ]


def _short(value: Any, most: int = 80) -> str | None:
    return None if value is None else str(value)[:most]


def _entries(record: Record) -> list[Mapping[str, Any]]:
    ledger = record.get("ledger")
    entries = ledger.get("entries") if isinstance(ledger, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _completion(entry: Mapping[str, Any]) -> int:
    usage = entry.get("usage")
    written = usage.get("completion") if isinstance(usage, dict) else None
    return written if isinstance(written, int) else 0


def _published(entry: Mapping[str, Any]) -> float | None:
    billions = entry.get("billions")
    read = entry.get("read_tokens") or 0
    return (
        None if billions is None else published_rates(1e9 * billions).cost(0, 0, _completion(entry), read_tokens=read)
    )
