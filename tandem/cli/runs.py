"""`tandem runs`: which runs there are, what one of them was, and how two of them differ."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tandem.cli.grouped import CommandGroup
from tandem.cli.options import PATH
from tandem.cli.output import console, emit, note, warn
from tandem.errors import UsageError
from tandem.words import counted

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on standard output.")
_FLIPS_SHOWN = 20
_PROBLEMS_SHOWN = 10


@click.group(cls=CommandGroup)
def runs() -> None:
    """List, show and compare runs.

    \b
    Examples:
      tandem runs list
      tandem runs show runs/2026-11-22-gsm8k-tandem
      tandem runs diff runs/2026-11-22-gsm8k-mentor-only runs/2026-11-22-gsm8k-tandem
    """


@runs.command("list")
@click.argument("root", type=PATH, required=False)
@click.option("--all", "everywhere", is_flag=True, help="Also your runs that were begun in other folders.")
@_JSON
def list_command(root: Path | None, everywhere: bool, as_json: bool) -> None:
    """List the runs in ROOT with accuracy, cost and state, oldest first; a comparison is one entry.

    Without ROOT, those in ./runs and those that were begun here with another --out.

    \b
    Examples:
      tandem runs list
      tandem runs list --all
      tandem runs list runs/2026-11-25-gsm8k-compare        # the runs of a comparison
      tandem runs list elsewhere --json
    """
    from tandem.runs.index import RUNS, remembered
    from tandem.runs.listing import list_runs

    if root is not None and everywhere:
        raise UsageError("--all lists every run; leave out ROOT")
    found = list_runs(root or RUNS, () if root else remembered(everywhere=everywhere))
    root = root or RUNS
    if not (found or as_json):
        note(f"no runs in {root}")
    emit(found, as_json, lambda: (line for run in found for line in _glance(root, run)))


@runs.command("show")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--problems", is_flag=True, help="List every problem with its verdict, level and question.")
@_JSON
def show(folder: Path, problems: bool, as_json: bool) -> None:
    """Show what the run in DIR was asked to do, its figures so far, and its problems.

    \b
    Examples:
      tandem runs show runs/2026-11-22-gsm8k-tandem
      tandem runs show runs/2026-11-22-gsm8k-tandem --problems | grep wrong
    """
    from tandem.reports.page.writers import questions_of
    from tandem.reports.run import problem_lines, summary_view, with_verdict
    from tandem.runs.listing import current_summary, state
    from tandem.runs.store import RunStore

    store = RunStore.open_for_reading(folder)
    manifest, summary = store.manifest(), with_verdict(current_summary(store), store)
    now = state(store, summary)
    warn(store.warnings)
    known = [("state", now), *_flat(manifest)]
    width = max(len(path) for path, _ in known)
    lines = [f"{path:{width}}  {_plain(value)}" for path, value in known]
    found = {"folder": str(folder), "state": now, "manifest": manifest, "summary": summary}
    width = console().width if sys.stdout.isatty() or "COLUMNS" in os.environ else 10_000
    listed = problem_lines(store.records(), questions_of(folder), width, None if problems else _PROBLEMS_SHOWN)
    figures = [] if problems else [*lines, *summary_view(summary, manifest["run"])]
    emit(found, as_json, lambda: [*figures, *listed])


@runs.command("diff")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@_JSON
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Compare run B with run A over the problems that both have: settings, accuracy, cost, and what flipped.

    \b
    Example:
      tandem runs diff runs/2026-11-22-gsm8k-mentor-only runs/2026-11-22-gsm8k-tandem
    """
    from tandem.reports.diff import compare
    from tandem.runs.store import RunStore

    stores = RunStore.open_for_reading(a), RunStore.open_for_reading(b)
    found = compare(*stores)
    for store in stores:
        warn(store.warnings)
    emit(found, as_json, lambda: _comparison(found))


def _glance(root: Path, run: Mapping[str, Any]) -> Iterator[str]:
    """Yield two lines of a run: where it is and its state; what it did and the results. A bad folder is a warning."""
    if "problem" in run:
        warn([run["problem"]])
        return
    folder = Path(run["folder"])
    name = folder.relative_to(root) if root in folder.parents else folder
    if folder.is_absolute() and Path.cwd() in folder.parents:
        name = folder.relative_to(Path.cwd())
    states = [run["state"], *([f"{run['errors']} failed"] if run["errors"] else [])]
    states += ["synthetic"] if run["synthetic"] else []
    yield f"{_when(run['started'])}  {_plain(name)}  ({', '.join(states)})"
    if "parts" in run:
        parts = (f"{one} {'not graded' if share is None else f'{share:.3f}'}" for one, share in run["parts"].items())
        over = counted(run["total"] or 0, "problem")
        yield f"    {_plain(_pair(run))}, {over}: accuracy {', '.join(map(_plain, parts))}"
        return
    done = f"{run['n']}/{'?' if run['total'] is None else run['total']}"
    results = []
    if run["accuracy"] is not None:
        low, high = run["accuracy_ci95"]
        results.append(f"accuracy {run['accuracy']:.3f} [{low:.3f}, {high:.3f}]")
    results.append(f"mentor tokens {run['mentor_tokens']:,}")
    results += [f"US$ {run['usd']:.4f}"] if run["usd"] is not None else []
    yield f"    {_plain(_pair(run))} {done}: {', '.join(results)}"


def _when(started: str | None) -> str:
    """Return the local time of a run's start; the manifest has UTC."""
    from datetime import datetime

    try:
        return f"{datetime.fromisoformat(str(started)).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return _plain(started or "?")[:16]


def _pair(run: Mapping[str, Any]) -> str:
    return f"{run['strategy']}, {run['mentor']} + {run['intern']}, {run['dataset'] or 'unknown data'}"


def _comparison(found: dict[str, Any]) -> Iterator[str]:
    from tandem.runs.outcomes import AXIS_LABELS

    a, b = found["folders"]
    yield f"A {a}"
    yield f"B {b}" + ("   (synthetic: a fake model took part)" if found["synthetic"] else "")
    for setting in found["settings"]:
        yield f"  {setting['path']:30} {_plain(setting['before'])} -> {_plain(setting['after'])}"
    if found["versions"][0] != found["versions"][1]:
        yield f"  {'version of Tandem':30} {' -> '.join(map(_plain, found['versions']))}"
    alone = f", {found['only'][0]} only in A, {found['only'][1]} only in B" if any(found["only"]) else ""
    yield f"{counted(found['common'], 'problem')} in common{alone}; all figures are over these"
    if others := found["other_reference"]:
        yield f"  {len(others)} more have the same id and another reference, and are left out: {_some(others)}"
    yield from _accuracies(found)
    for name, ratio in found["ratio"].items():
        before, after = (cost[name] for cost in found["costs"])
        if before is not None and after is not None and (before or after):
            times = "" if ratio is None else f"  ({ratio:.3f} of A)"
            yield f"{AXIS_LABELS.get(name, 'intern tokens'):18} {before:,.4g} -> {after:,.4g}{times}"
    if any(found["errors"]):
        yield f"{'failed':18} {found['errors'][0]} -> {found['errors'][1]}"


def _accuracies(found: dict[str, Any]) -> Iterator[str]:
    if not found["judged"]:
        yield "accuracy           none: no common problem was graded in both"
        return
    before, after = found["accuracy"]
    difference = found["difference"]
    low, high = difference["ci95"]
    of = "" if found["judged"] == found["common"] else f" over the {found['judged']} that both graded"
    yield f"{'accuracy':18} {before:.3f} -> {after:.3f}{of}"
    yield (
        f"{'difference':18} {difference['value']:+.3f}  (95 % interval {low:+.3f} to {high:+.3f}, paired bootstrap; "
        f"McNemar p = {difference['mcnemar_p']:.3g})"
    )
    for name, word in (("gained", "wrong in A, right in B"), ("lost", "right in A, wrong in B")):
        if ids := found["flipped"][name]:
            yield f"{len(ids):4} {word}: {_some(ids)}"


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _FLIPS_SHOWN} more (--json has all)" if len(ids) > _FLIPS_SHOWN else ""
    return ", ".join(map(_plain, ids[:_FLIPS_SHOWN])) + more


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        where = f"{path}.{key}" if path else key
        if isinstance(part, Mapping):
            yield from _flat(part, where)
        elif part not in (None, [], ""):
            yield where, part


def _plain(value: Any) -> str:
    from tandem.reports.run import one_line

    return "none" if value is None else one_line(str(value))
