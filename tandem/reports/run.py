"""A run for people: its figures as a table, as Markdown and, one row a problem, as CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.costs import LABELS, UNITS, Unit, amount, default_unit, figure, rates
from tandem.errors import TandemError
from tandem.ladder import by_level
from tandem.ledger import Ledger
from tandem.reports.verdict import Verdict, verdict
from tandem.runs.cut import CutAnswers
from tandem.runs.manifest import specs_of
from tandem.runs.mentor_alone import mentor_alone
from tandem.runs.outcomes import outcomes_of
from tandem.runs.store import RunStore
from tandem.runs.summary import summarise
from tandem.spec import ModelSpec
from tandem.storage.files import write_whole
from tandem.sufficiency.classifier import find_classifier, read_card
from tandem.words import VERDICTS, counted, shortened

if TYPE_CHECKING:
    from rich.table import Table

_FROM_LEDGER = ("mentor_tokens", "intern_tokens", "probe_tokens", "usd", "tflops")
_COLUMNS = ("id", "correct", "level", "answered_by", *_FROM_LEDGER, "seconds", "truncated", "error", "question")
_FORMULA = "=+-@＝＋－＠"  # what a spreadsheet takes for the beginning of a formula
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")
_FAILURES_SHOWN = 50
_PROBLEMS_SHOWN = 200
_EXCERPT = 100  # characters of a question
_OF_ONE_MODEL = ("intern-only", "mentor-only", "budget-forcing")


def summary_view(summary: Mapping[str, Any], described: Mapping[str, Any]) -> list[Table | str]:
    """Return a run's figures as a table, and below it the verdict in a sentence, where there is one."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title(summary, described)), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in figures(summary):
        table.add_row(name, Text(one_line(text)))
    costs = Table(*COST_COLUMNS)
    for row in cost_rows(summary):
        costs.add_row(*row)
    for column in costs.columns[1:]:
        column.justify = "right"
    return [table, costs, *([one_line(text)] if (text := sentence(summary)) else [])]


def sentence(summary: Mapping[str, Any]) -> str:
    found = summary.get("verdict")
    return str(found["sentence"]) if found else ""


def run_verdict(store: RunStore, mentor: ModelSpec, intern: ModelSpec, unit: Unit, **known: Any) -> Verdict | None:
    """Return the verdict on a run against the mentor alone, which it estimates; None for one of a model alone.

    `known` is the rest of what `mentor_alone` needs: the pair's `card` and the mentor's `cap`.
    """
    strategy = str(store.manifest()["run"]["strategy"])
    if strategy.partition(":")[0] in _OF_ONE_MODEL:
        return None
    ours = outcomes_of(store.records())
    return verdict(
        ours if ours.ids else outcomes_of(store.records(), graded=False),
        mentor_alone(store.records(), mentor, **known),
        unit,
        name="Tandem" if strategy == "tandem" else strategy,
        free=intern.name if intern.local and rates(intern, "usd", "intern") is None else None,
        unpriced=next((spec.name for spec in (mentor, intern) if rates(spec, "usd", "mentor") is None), None),
    )


def with_verdict(summary: dict[str, Any], store: RunStore) -> dict[str, Any]:
    """Return a summary with costs and verdict; of a run that goes on, or an older one, they come from its files."""
    manifest = store.manifest()
    specs = specs_of(manifest)
    if "cost" not in summary:
        summary = summary | {"cost": summarise(store.records(), None)["cost"]}
    if "verdict" in summary or specs is None:
        return summary
    run = manifest["run"]
    settings = run.get("settings", {})
    try:
        name = settings.get("classifier") or run.get("classifier")
        card = read_card(find_classifier(str(name))) if name else None
    except TandemError:  # it has gone since
        card = None
    unit = summary.get("unit") or settings.get("unit") or default_unit(*specs)
    found = run_verdict(store, *specs, unit, card=card, cap=settings.get("mentor_max_tokens", 4096))
    return summary | {"unit": unit, "verdict": found.model_dump(mode="json") if found else None}


def title(summary: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    synthetic = "  (synthetic: a fake model took part)" if summary["synthetic"] else ""
    pair = f"{described['mentor']['name']} + {described['intern']['name']}"
    return one_line(f"{described['strategy']}: {pair}{synthetic}")


def figures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    n = summary["n"]
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
    for name, part in summary.get("datasets", {}).items():
        rows.append((f"  {name}", _of_a_dataset(part, summary.get("unit"))))
    shares = by_level(summary["levels"]).items()
    rows.append(("levels", ", ".join(f"{level} {count}" for level, count in shares) or "none reached"))
    if probes := summary["probe_tokens"]:
        rows.append(("discarded drafts", f"{probes / max(n, 1):,.0f} intern tokens a problem"))
    if summary["usd"] is not None and (bill := _bill(summary)):
        rows.append(("the bill", bill))
    if failed := summary.get("failed_calls"):
        rows.append(("calls that failed", f"{failed}, charged as far as they were billed"))
    if (lost := summary.get("lost")) and lost["calls"]:
        worst = f", {amount(lost['usd_bound'], 'usd')} at worst" if lost.get("usd_bound") is not None else ""
        calls = f"{counted(lost['calls'], 'call')} beside those of the records{worst}"
        # Of a run that was stopped, the calls that had ended are given again when it goes on.
        rows.append(("billed, not in a record yet" if summary.get("stopped") else "billed and lost", calls))
    if cut := {role: count for role, count in summary["truncated"].items() if count}:
        share = CutAnswers.of_summary(summary).share
        told = (
            f"{role} {count}" + (f" ({share(role):.0%} of its answers)" if share(role) else "")
            for role, count in cut.items()
        )
        rows.append(("cut at the token cap", ", ".join(told)))
    if classifier := summary["classifier"]:
        rows.append(("classifier", f"{classifier['id']} ({classifier['match']})"))
        if unit := classifier.get("unit"):
            rows.append(("operating point", f"for {classifier['aim']} in {LABELS[unit]}, by kind of task"))
    return rows


def _of_a_dataset(part: Mapping[str, Any], unit: Unit | None) -> str:
    said = [counted(part["n"], "problem")]
    if part["accuracy"] is not None:
        low, high = part["accuracy_ci95"]
        said.append(f"accuracy {part['accuracy']:.3f} ({low:.3f} to {high:.3f})")
    if unit and (cost := part["cost"][unit]["mean"]) is not None:
        said.append(f"{amount(cost, unit)} a problem")
    return ", ".join(said)


def judged(record: Mapping[str, Any]) -> str:
    """Return a record's verdict in a word."""
    if record["error"] is not None:
        return "failed"
    return VERDICTS[record["correct"]]


def problem_lines(
    records: Iterable[Mapping[str, Any]], questions: Mapping[str, str], width: int, most: int | None = None
) -> Iterator[str]:
    """Yield a line for each problem: verdict, level, id, and as much of the question as fits in `width`."""
    for place, record in enumerate(records):
        if place == most:
            yield "… the rest: tandem runs show DIR --problems"
            return
        question = " ".join(questions.get(record["problem"], "").split())
        line = f"{judged(record):10} {record['level'] or '':8} {record['problem']}  {question}"
        yield shortened(one_line(line).rstrip(), width)


def write_report(
    folder: Path,
    summary: Mapping[str, Any],
    manifest: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
    questions: Mapping[str, str],
) -> tuple[Path, Path]:
    """Write ``report.md`` and ``report.csv`` into the run's folder and return their paths.

    `records` are read once; `questions` are by problem, as far as they are known. Raises TandemError if a file cannot
    be written.
    """
    table, failures = io.StringIO(), []
    listed: list[tuple[str, ...]] = []
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in records:
        ledger = Ledger.model_validate(record["ledger"])
        question = questions.get(record["problem"], "")
        row = {**record, "id": record["problem"], **{name: getattr(ledger, name) for name in _FROM_LEDGER}}
        row["question"] = question
        if len(listed) < _PROBLEMS_SHOWN:
            short = shortened(" ".join(question[: 2 * _EXCERPT].split()), _EXCERPT)
            listed.append((judged(record), str(record["level"] or ""), str(record["problem"]), short))
        writer.writerow([cell(row[column]) for column in _COLUMNS])
        if record["error"] is not None:
            failures.append((record["problem"], record["error"]))
    paths = folder / "report.md", folder / "report.csv"
    write_whole(paths[0], _markdown(summary, manifest, failures, listed))
    write_whole(paths[1], table.getvalue())
    return paths


def one_line(text: str) -> str:
    """Return a text without line breaks and terminal codes: names and errors may come from anywhere."""
    return "".join(c if c.isprintable() else " " for c in text)


def _markdown(
    summary: Mapping[str, Any],
    manifest: Mapping[str, Any],
    failures: list[tuple[str, str]],
    listed: list[tuple[str, ...]],
) -> str:
    run = manifest["run"]
    data = run.get("dataset", {})
    lines = [f"# {escaped(title(summary, run))}", ""]
    started = escaped(str(manifest.get("started", "an unknown day")))
    lines.append(f"Data: {escaped(str(data.get('name', 'unknown')))}, started {started}.")
    lines += ["", "| | |", "| --- | --- |"]
    lines += [f"| {escaped(name)} | {escaped(text)} |" for name, text in figures(summary)]
    lines += ["", _line(COST_COLUMNS), "| --- | ---: | ---: | ---: | ---: |", *map(_line, cost_rows(summary))]
    if text := sentence(summary):
        lines += ["", escaped(text)]
    if failures:
        head = f"## Failed problems ({len(failures)}; they count as wrong)"
        lines += ["", head, "", "| id | error |", "| --- | --- |"]
        lines += [f"| {escaped(id)} | {escaped(error)} |" for id, error in failures[:_FAILURES_SHOWN]]
        if len(failures) > _FAILURES_SHOWN:
            lines += ["", f"and {len(failures) - _FAILURES_SHOWN} more, in report.csv."]
    if listed:
        lines += ["", "## Problems", "", "| verdict | level | id | question |", "| --- | --- | --- | --- |"]
        lines += map(_line, listed)
        if (more := summary["n"] - len(listed)) > 0:
            lines += ["", f"and {more} more, in report.csv."]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"


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


COST_COLUMNS = ("cost", "a problem", "in all", "mentor", "intern")


def cost_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return what a problem cost on average, all of them, and either model's part; the run's unit first."""
    cost = summary["cost"]
    unit = summary.get("unit") or next((unit for unit in UNITS if cost[unit]["total"] is not None), "tflops")
    assumed = summary.get("assumed", ["tflops"] if summary["tflops_assumed"] else [])
    tokens, rows = summary["intern_tokens"], []
    for name in sorted(UNITS, key=lambda one: one != unit):
        parts = [cost[name].get(part) for part in ("mean", "total", "mentor", "intern")]
        if name == "mentor_tokens":
            parts[3] = None
        if parts[1] is not None or name in {unit, "tflops"}:
            what = "sizes" if name in ("tflops", "tflops_published") else "speed"
            label = LABELS[name] + (f", assumed {what}" if name in assumed else "")
            unknown = "not known" if parts[1] is None else ""
            cells = [unknown if part is None else figure(part, name) for part in parts]
            if name == "usd" and tokens and cells[1] and not cells[3]:
                cells[3] = "free"  # on own hardware
            rows.append((label, *cells))
    return [*rows, ("intern tokens", f"{tokens / max(summary['n'], 1):,.0f}", f"{tokens:,}", "", f"{tokens:,}")]


def _bill(summary: Mapping[str, Any]) -> str:
    """Say where the bill may differ from the cost."""
    said = []
    if (worst := summary.get("usd_bound")) is not None and worst > summary["usd"]:
        said.append(f"{amount(worst, 'usd')} at worst")
    if (paid := summary.get("usd_paid")) is not None and paid < summary["usd"]:
        said.append(f"{amount(paid, 'usd')} paid, the rest came from the response cache")
    return "; ".join(said)
