"""A run's summary as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def summary_table(summary: Mapping[str, Any], described: Mapping[str, Any]) -> Table:
    """Return accuracy, levels, tokens and cost of one run as a rich table."""
    from rich.table import Table

    mentor, intern = described["mentor"]["name"], described["intern"]["name"]
    synthetic = "  (synthetic: a fake model took part)" if summary["synthetic"] else ""
    table = Table(title=f"{described['strategy']}: {mentor} + {intern}{synthetic}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in _rows(summary):
        table.add_row(name, text)
    return table


def _rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    n = summary["n"]
    each = max(n, 1)
    rows = [("problems", f"{n}" + (f", {summary['errors']} failed" if summary["errors"] else ""))]
    if summary["accuracy"] is None:
        rows.append(("accuracy", "no reference answers"))
    else:
        low, high = summary["accuracy_ci95"]
        rows.append(("accuracy", f"{summary['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f})"))
    shares = summary["levels"].items()
    rows.append(("levels", ", ".join(f"{level} {count}" for level, count in shares) or "none reached"))
    probe = f", {summary['probe_tokens'] / each:.0f} of them in discarded drafts" if summary["probe_tokens"] else ""
    rows.append(("mentor tokens", f"{summary['mentor_tokens'] / each:.0f} a problem"))
    rows.append(("intern tokens", f"{summary['intern_tokens'] / each:.0f} a problem{probe}"))
    assumed = " (assumed sizes)" if summary["tflops_assumed"] else ""
    rows.append(("TFLOPs", _each(summary["tflops"], each, "unknown sizes") + assumed))
    rows.append(("TFLOPs, published formula", _each(summary["tflops_published"], each, "unknown sizes")))
    if summary["usd"] is not None:
        rows.append(("US$", f"{summary['usd']:.4f} in all"))
    if cut := {role: count for role, count in summary["truncated"].items() if count}:
        rows.append(("cut at the token cap", ", ".join(f"{role} {count}" for role, count in cut.items())))
    if classifier := summary["classifier"]:
        rows.append(("classifier", f"{classifier['id']} ({classifier['match']})"))
    return rows


def _each(total: float | None, n: int, unknown: str) -> str:
    return f"unknown: {unknown}" if total is None else f"{total / n:.3f} a problem"
