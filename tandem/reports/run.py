"""A run for people: its figures as a table, as Markdown and, one row a problem, as CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.ledger import Ledger
from tandem.storage.files import write_whole

if TYPE_CHECKING:
    from rich.table import Table

_FROM_LEDGER = ("mentor_tokens", "intern_tokens", "probe_tokens", "usd", "tflops")
_COLUMNS = ("id", "correct", "level", "answered_by", *_FROM_LEDGER, "seconds", "truncated", "error")
_FORMULA = "=+-@＝＋－＠"  # what a spreadsheet takes for the beginning of a formula
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")
_FAILURES_SHOWN = 50


def summary_table(summary: Mapping[str, Any], described: Mapping[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title(summary, described)), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in figures(summary):
        table.add_row(name, Text(one_line(text)))
    return table


def title(summary: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    synthetic = "  (synthetic: a fake model took part)" if summary["synthetic"] else ""
    pair = f"{described['mentor']['name']} + {described['intern']['name']}"
    return one_line(f"{described['strategy']}: {pair}{synthetic}")


def figures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    n = summary["n"]
    each = max(n, 1)
    rows = [("problems", f"{n}" + (f", {summary['errors']} failed" if summary["errors"] else ""))]
    if stopped := summary.get("stopped"):
        rows.append(("stopped early", stopped))
    if summary["accuracy"] is None:
        rows.append(("accuracy", "none: nothing was graded (no references, or --no-grade)"))
    else:
        graded = summary.get("graded", n)
        of = "" if graded == n else f" of the {graded} that could be graded"
        low, high = summary["accuracy_ci95"]
        rows.append(("accuracy", f"{summary['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f}){of}"))
    shares = summary["levels"].items()
    rows.append(("levels", ", ".join(f"{level} {count}" for level, count in shares) or "none reached"))
    probe = f", {summary['probe_tokens'] / each:.0f} of them in discarded drafts" if summary["probe_tokens"] else ""
    rows.append(("mentor tokens", f"{summary['mentor_tokens'] / each:.0f} a problem"))
    rows.append(("intern tokens", f"{summary['intern_tokens'] / each:.0f} a problem{probe}"))
    assumed = " (assumed sizes)" if summary["tflops_assumed"] else ""
    rows.append(("TFLOPs", _each(summary["tflops"], each) + assumed))
    rows.append(("TFLOPs, published formula", _each(summary["tflops_published"], each)))
    if summary["usd"] is not None:
        rows.append(("US$", _usd_text(summary)))
    if failed := summary.get("failed_calls"):
        rows.append(("calls that failed", f"{failed}, charged as far as they were billed"))
    if (lost := summary.get("lost")) and lost["calls"]:
        worst = f", US$ {lost['usd_bound']:.4f} at worst" if lost.get("usd_bound") is not None else ""
        calls = f"{lost['calls']} call{'s' if lost['calls'] > 1 else ''} beside those of the records{worst}"
        # Of a run that was stopped, the calls that had ended are given again when it goes on.
        rows.append(("billed, not in a record yet" if summary.get("stopped") else "billed and lost", calls))
    if cut := {role: count for role, count in summary["truncated"].items() if count}:
        rows.append(("cut at the token cap", ", ".join(f"{role} {count}" for role, count in cut.items())))
    if classifier := summary["classifier"]:
        rows.append(("classifier", f"{classifier['id']} ({classifier['match']})"))
    return rows


def write_report(
    folder: Path, summary: Mapping[str, Any], manifest: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
) -> tuple[Path, Path]:
    """Write ``report.md`` and ``report.csv`` into the run's folder and return their paths.

    `records` are read once. Raises TandemError if a file cannot be written.
    """
    table, failures = io.StringIO(), []
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in records:
        ledger = Ledger.model_validate(record["ledger"])
        row = {**record, "id": record["problem"], **{name: getattr(ledger, name) for name in _FROM_LEDGER}}
        writer.writerow([cell(row[column]) for column in _COLUMNS])
        if record["error"] is not None:
            failures.append((record["problem"], record["error"]))
    paths = folder / "report.md", folder / "report.csv"
    write_whole(paths[0], _markdown(summary, manifest, failures))
    write_whole(paths[1], table.getvalue())
    return paths


def one_line(text: str) -> str:
    """Return a text without line breaks and terminal codes: names and errors may come from anywhere."""
    return "".join(c if c.isprintable() else " " for c in text)


def _markdown(summary: Mapping[str, Any], manifest: Mapping[str, Any], failures: list[tuple[str, str]]) -> str:
    run = manifest["run"]
    data = run.get("dataset", {})
    lines = [f"# {escaped(title(summary, run))}", ""]
    started = escaped(str(manifest.get("started", "an unknown day")))
    lines.append(f"Data: {escaped(str(data.get('name', 'unknown')))}, started {started}.")
    lines += ["", "| | |", "| --- | --- |"]
    lines += [f"| {escaped(name)} | {escaped(text)} |" for name, text in figures(summary)]
    if failures:
        head = f"## Failed problems ({len(failures)}; they count as wrong)"
        lines += ["", head, "", "| id | error |", "| --- | --- |"]
        lines += [f"| {escaped(id)} | {escaped(error)} |" for id, error in failures[:_FAILURES_SHOWN]]
        if len(failures) > _FAILURES_SHOWN:
            lines += ["", f"and {len(failures) - _FAILURES_SHOWN} more, in report.csv."]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    return html.escape(_MARKDOWN.sub(r"\\\1", one_line(text)), quote=False)


def cell(value: Any) -> Any:
    """Return a value for a cell of CSV: one line, and nothing that a spreadsheet would compute."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = one_line(value).strip()
    return f"'{text}" if text[:1] and text[0] in _FORMULA else text


def _usd_text(summary: Mapping[str, Any]) -> str:
    text = f"{summary['usd']:.4f} in all"
    if (worst := summary.get("usd_bound")) is not None and worst > summary["usd"]:
        text += f", {worst:.4f} at worst"
    if (paid := summary.get("usd_paid")) is not None and paid < summary["usd"]:
        text += f"; {paid:.4f} paid, the rest came from the response cache"
    return text


def _each(total: float | None, n: int) -> str:
    return "unknown: unknown sizes" if total is None else f"{total / n:.3f} a problem"
