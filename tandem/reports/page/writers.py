"""Reports as files: report.html, report.md and report.csv of a comparison, or the page of a single run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tandem.reports.page.build import PageData, write_page
from tandem.reports.page.exports import ComparisonCsv, markdown, title
from tandem.reports.page.gather import ReportedProblem, SavedComparison, figures, is_comparison, read_questions
from tandem.reports.page.records import Record, accepted_sufficiency
from tandem.reports.run import figures as run_figures
from tandem.reports.run import title as run_title
from tandem.runs.outcomes import LATENCY
from tandem.storage.files import write_whole


def write_comparison(folder: Path, comparison: SavedComparison) -> tuple[Path, Path, Path]:
    """Write report.html, report.md and report.csv into the comparison's folder; every record is read once.

    Raises TandemError if a file cannot be written.
    """
    found = comparison.figures
    data, rows = PageData(len(found["strategies"])), ComparisonCsv([one["name"] for one in found["strategies"]])
    for problem in comparison.problems():
        data.add(problem)
        rows.add(problem)
    paths = folder / "report.html", folder / "report.md", folder / "report.csv"
    shown = found | {"warnings": comparison.warnings}
    write_page(paths[0], f"{title(found)} · Tandem", shown, data)
    write_whole(paths[1], markdown(found, comparison.warnings))
    write_whole(paths[2], rows.text())
    return paths


def questions_of(folder: Path) -> dict[str, str]:
    """Return a run's questions by problem, as far as its folder or its comparison's has them."""
    return read_questions(folder) or (read_questions(folder.parent) if is_comparison(folder.parent) else {})


class RunPage:
    """The page of a single run, of records that another report reads as well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.questions = questions_of(folder)
        self._data = PageData(1)
        self._accepted: list[tuple[float, bool]] = []  # sufficiency, right

    def passing(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records as they are, taking in each."""
        for record in records:
            problem = str(record["problem"])
            self._data.add(ReportedProblem(problem, self.questions.get(problem), {0: record}))
            if (pair := accepted_sufficiency(record)) is not None:
                self._accepted.append(pair)
            yield record

    def write(self, summary: Mapping[str, Any], manifest: Mapping[str, Any], warnings: Iterable[str]) -> Path:
        """Write report.html into the run's folder and return its path. Raises TandemError if it cannot be written."""
        from tandem.statistics.reliability import reliability_bins

        run, n = manifest["run"], max(summary["n"], 1)
        cost = {unit: own["mean"] for unit, own in summary["cost"].items()}
        cost |= {"intern_tokens": summary["intern_tokens"] / n, LATENCY: summary["seconds"] / n}
        alone = {
            "name": run["strategy"],
            "status": "finished",
            "cost": cost,
            **{key: summary[key] for key in ("n", "accuracy", "accuracy_ci95", "levels", "truncated", "errors")},
        }
        shown = figures(
            {
                "version": manifest.get("version"),
                "started": manifest.get("started"),
                "pair": {role: run[role].get("name") for role in ("mentor", "intern")},
                "dataset": run.get("dataset", {}),
                "synthetic": summary["synthetic"] or manifest.get("synthetic") is True,
                "n": summary["n"],
                "graded": summary.get("graded", summary["n"]),
                "unit": summary.get("unit"),
                "strategies": [alone],
                "verdict": summary.get("verdict"),
                "reliability": {run["strategy"]: reliability_bins(self._accepted)} if self._accepted else {},
            }
        )
        found = summary.get("verdict")
        if found and found.get("cost_ratio") and (most := found["per_1000"].get("mentor")) is not None:
            shown["alone"] = {"unit": found["unit"], "cost": most / 1000}
        shown |= {"kind": "run", "facts": run_figures(summary), "warnings": list(warnings)}
        path = self._folder / "report.html"
        write_page(path, f"{run_title(summary, run)} · Tandem", shown, self._data)
        return path
