"""`tandem grade`: a finished run graded again, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.data_options import DATA_KEYS, dataset_options
from tandem.cli.grouped import command
from tandem.cli.options import PATH, code_options, open_code_sandbox
from tandem.cli.output import console, emit, note, warn
from tandem.errors import TandemError, UsageError
from tandem.words import VERDICTS, counted, shortened

if TYPE_CHECKING:
    from tandem.runs.regrade import RecordsToGrade, Regraded
    from tandem.types import Problem


@command()
@click.argument("run", type=PATH)
@dataset_options(required=False)
@code_options
@click.option("--deadline", type=click.FloatRange(0, min_open=True), metavar="S", help="Seconds for one formula.")
@click.option("--write", is_flag=True, help="Append the corrected records to the run and write its summary anew.")
@click.option("--verbose", is_flag=True, help="Show each problem whose verdict changed.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON on standard output, nothing else.")
def grade(run: Path, deadline: float | None, write: bool, verbose: bool, as_json: bool, **options: Any) -> None:
    """Grade the records of RUN (a run's folder or a records file) again and say what changed.

    References and tests come from the data set that the run names, or from --dataset; where that is not here, the
    references in the records are used. What cannot be graded keeps its verdict. Nothing is written without --write.

    \b
    Examples:
      tandem grade runs/2026-11-22-math500-tandem --verbose
      tandem grade runs/2026-11-22-humaneval-tandem --allow-code-execution --write
      tandem grade records.jsonl --dataset my/problems.jsonl --json
    """
    import asyncio
    from contextlib import closing

    from rich.progress import Progress

    from tandem.grading import DEADLINE
    from tandem.runs.regrade import RecordsToGrade, regrade

    with closing(RecordsToGrade(run, write=write)) as source:
        problems = _problems(source, options)
        code = next((problem.id for problem in problems.values() if problem.tests is not None), None)
        if code and not options["allow_code_execution"]:
            raise UsageError(f"{code} is graded by running the models' code: allow that with --allow-code-execution")
        sandbox = open_code_sandbox(options, problems.values(), graded=True)
        err = console(stderr=True)
        with Progress(console=err, disable=not err.is_terminal, transient=True) as bar:
            task = bar.add_task("grading", total=len(source.store.ids()) if source.store else None)
            limit = deadline or DEADLINE
            work = regrade(source, problems, sandbox=sandbox, deadline=limit, progress=lambda: bar.advance(task))
            regraded = asyncio.run(work)
        written = write and bool(regraded.changes)
        if written:
            source.write(regraded)
    warn(source.warnings)
    emit(regraded.figures() | {"written": written}, as_json, lambda: _lines(regraded, written, verbose))


def _problems(source: RecordsToGrade, options: dict[str, Any]) -> dict[str, Problem]:
    from tandem.cli.data_options import load_problems

    if options["dataset"] is not None:
        return {problem.id: problem for problem in load_problems(options)}
    if any(options[key] not in (None, ()) for key in DATA_KEYS):
        raise UsageError("--split, --limit, --field and similar options apply to --dataset; give that too")
    try:
        return source.problems()
    except TandemError as error:
        warn([f"the references in the records are used ({error})"])
        return {}


def _lines(regraded: Regraded, written: bool, verbose: bool) -> Iterator[str]:
    figures = regraded.figures()
    changes = regraded.changes
    won, lost = (sum(change.after is verdict for change in changes) for verdict in (True, False))
    told = f" ({won} now right, {lost} now wrong)" if changes else ""
    yield f"{counted(regraded.n, 'record')}, {len(changes)} changed{told}"
    if regraded.not_judged:
        yield f"{regraded.not_judged} could not be graded (no reference, no tests, or not allowed to run)"
    if figures["accuracy"] is not None:
        low, high = figures["accuracy_ci95"]
        before = "not graded" if figures["accuracy_before"] is None else f"{figures['accuracy_before']:.3f}"
        yield f"accuracy {before} -> {figures['accuracy']:.3f}  (95 % interval {low:.3f} to {high:.3f})"
    if verbose:
        for change in changes:
            verdicts, answer = f"{VERDICTS[change.before]} -> {VERDICTS[change.after]}", _short(change.answer)
            yield f"  {change.problem}: {verdicts}, answer {answer}, reference {_short(change.reference)}"
    warn(f"not graded again: {fault}" for fault in regraded.faults)
    if changes:
        note("the corrected records were appended" if written else "nothing was written; --write keeps it")


def _short(text: str | None) -> str:
    return shortened(" ".join(text.split()) if text else "(none)", 60)
