"""A comparison as one table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tandem.evaluation.report import one_line

if TYPE_CHECKING:
    from rich.table import Table

_UNIT = "tflops"


def comparison_table(found: Mapping[str, Any]) -> Table:
    """Return every strategy's accuracy, cost and differences; the skipped ones are `skipped`'s."""
    from rich.table import Table
    from rich.text import Text

    pair = found["pair"]
    synthetic = "  (synthetic: a fake model took part)" if found["synthetic"] else ""
    title = f"{pair['mentor']} + {pair['intern']} on {found['dataset'].get('name')}, {found['n']} problems{synthetic}"
    table = Table(title=Text(one_line(title)), caption=Text(_caption(found)))
    table.add_column("strategy", style="bold", overflow="fold", min_width=12)
    for name in ("accuracy", "TFLOPs", "mentor tokens", "points over the chord", "points over the mentor, p"):
        table.add_column(name, justify="right")
    for row in found["strategies"]:
        if row["status"] != "skipped":
            table.add_row(*(Text(one_line(str(cell))) for cell in _cells(row)))
    best = found["oracle"]
    cost = best["cost"]
    if best["accuracy"] is not None:
        table.add_section()
        known = [f"{best['accuracy']:.3f}", _number(cost["tflops"]), _number(cost["mentor_tokens"], 0)]
        table.add_row("oracle", *known, "", "")
    return table


def skipped(found: Mapping[str, Any]) -> list[str]:
    """Return a line for each strategy that was left out, with the reason."""
    rows = (row for row in found["strategies"] if row["status"] == "skipped")
    return [one_line(f"skipped {row['name']}: {row['reason']}") for row in rows]


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["accuracy_ci95"] or (None, None)
    interval = "" if low is None else f" ({low:.2f}-{high:.2f})"
    name = row["name"] + ("" if row["status"] == "finished" else f"\n(partial: {row['n']})")
    cost = row["cost"]
    gain = (row.get("gain_over_chord") or {}).get(_UNIT) or {}
    mentor = row.get("against_mentor") or {}
    against = "" if not mentor else f"{100 * (mentor['value'] or 0):+.1f}, {mentor['mcnemar_p']:.3f}"
    return [
        name,
        "" if row["accuracy"] is None else f"{row['accuracy']:.3f}{interval}",
        _number(cost["tflops"]),
        _number(cost["mentor_tokens"], 0),
        _gain(gain),
        against,
    ]


def _gain(gain: Mapping[str, float | None]) -> str:
    value, low, high = (gain.get(key) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return ""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _number(value: float | None, places: int = 2) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _caption(found: Mapping[str, Any]) -> str:
    shared = found["shared"]
    if not shared["share"]:
        return ""
    return (
        "Means of a problem, charged in full, with 95 % intervals. Equal calls were made once: "
        f"{shared['generated_tokens']} tokens were written for the {shared['charged_tokens']} that are charged "
        f"({shared['share']:.2f})."
    )
