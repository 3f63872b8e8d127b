"""`tandem train`: a sufficiency classifier or a strategy's predictor from a collected table, and its evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.grouped import command
from tandem.cli.options import PATH, fit_options
from tandem.cli.output import emit, note, table
from tandem.errors import UsageError

if TYPE_CHECKING:
    from tandem.spec import ModelSpec
    from tandem.sufficiency.predictor import Predictor
    from tandem.training.data import Table
    from tandem.training.train import Trained


def _listed(_context: click.Context, _option: click.Parameter, text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


_sets_option = partial(click.option, metavar="SET,SET", callback=_listed)


@command()
@click.argument("collections", metavar="COLLECTION...", type=PATH, nargs=-1, required=True)
@click.option(
    "--strategy",
    metavar="NAME",
    help="Train what this strategy has learned instead: route, cascade, shepherding, best-route, published.",
)
@fit_options
@_sets_option("--sets", help="Train on these data sets of the table only.")
@_sets_option("--for", "domain", help="Fit on everything, choose the operating point for these.")
@click.option(
    "--evaluate",
    "tests",
    type=PATH,
    multiple=True,
    metavar="TEST",
    help="Write no classifier: choose everything on COLLECTION, evaluate it on TEST, a collection of other problems.",
)
@_sets_option("--test-sets", help="Evaluate on these data sets of TEST only.")
@click.option("--report", type=PATH, metavar="FILE", help="Write the evaluation as Markdown too.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON on standard output, nothing else.")
def train(
    collections: tuple[Path, ...],
    strategy: str | None,
    out: Path | None,
    sets: list[str],
    domain: list[str],
    tests: tuple[Path, ...],
    test_sets: list[str],
    report: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Train a classifier from COLLECTION (a folder with collection.json and table.jsonl.gz).

    With --strategy, what a strategy of that name has to learn (route, cascade, shepherding, best-route), from one or
    more collections of the same pair; it is written to DIR/predictors/NAME.json.

    \b
    Examples:
      tandem collect --mentor M --intern I --dataset gsm8k --limit 150 --out collected
      tandem train collected --out classifiers/my-pair
      tandem run --mentor M --intern I --dataset math500 --classifier classifiers/my-pair
      tandem train collected --evaluate collected-test --report frontier.md
      tandem train collected --for gsm8k-train --out classifiers/for-word-problems
      tandem train collected --unit usd --prices prices.yaml --out classifiers/my-pair
      tandem train collected collected-code --strategy route --out classifiers/my-pair
    """
    from tandem.cli.classifiers import card_view
    from tandem.storage.formats import stamped
    from tandem.training.data import only, read_collection

    if strategy is not None:
        needless = {
            "--name": how["name"],
            "--no-hand-over": not how["hand_over"],
            "--for": domain,
            "--prefix-cache": how["prefix_cache"],
            "--evaluate": tests,
            "--test-sets": test_sets,
            "--report": report,
        }
        if given := [option for option, value in needless.items() if value]:
            raise UsageError(f"--strategy trains a predictor, not a classifier: leave out {', '.join(given)}")
        tables = [read_collection(path) for path in collections]
        if strategy == "published":
            _train_published(tables, sets, out, as_json)
        else:
            _train_strategy(strategy, tables, sets, out, how, as_json)
        return
    if len(collections) > 1:
        raise UsageError("a classifier is trained from one collection; only --strategy takes several")
    rows, manifest = read_collection(collections[0])
    table = only(rows, sets), manifest
    if tests:
        if out or how.pop("name") or not how.pop("hand_over"):
            raise UsageError("--evaluate writes no classifier: leave out --out, --name and --no-hand-over")
        _evaluate(table, tests, test_sets, how | {"domain": domain}, report, as_json)
        return
    trained, folder = fit_classifier(table, out, domain=tuple(domain), **how)
    assert trained.classifier is not None  # only a regret can fail to be certified
    card = trained.classifier.card
    emit(stamped(card.model_dump(mode="json")), as_json, lambda: card_view(card))
    if not as_json:
        note(f"written to {folder}")


def fit_classifier(
    table: Table, out: Path | None, *, name: str | None, write: bool = True, **how: Any
) -> tuple[Trained, Path]:
    """Fit a classifier and write it, if there is one; return what was found, and the classifier's folder."""
    from tandem.cli.session import command_line
    from tandem.training.train import train

    rows, manifest = table
    specs = take_pair(manifest, how)
    name = name or f"{specs[0].name}+{specs[1].name}"
    trained = train(rows, manifest, specs, name=name, command=command_line(), say=note, **how)
    folder = out or Path("classifiers") / name
    if write and trained.classifier is not None:
        trained.classifier.save(folder)
    return trained, folder


def take_pair(manifest: Mapping[str, Any], how: dict[str, Any]) -> tuple[ModelSpec, ModelSpec]:
    """Take `rate_options` out of a command's options; return mentor and intern with what their tokens cost."""
    from inspect import signature

    from tandem.training.data import rated_pair

    names = signature(rated_pair).parameters.keys() - {"manifest"}
    return rated_pair(manifest, **{name: how.pop(name) for name in names})


def _train_strategy(
    strategy: str, tables: list[Table], sets: list[str], out: Path | None, how: dict[str, Any], as_json: bool
) -> None:
    from tandem.cli.session import command_line
    from tandem.training.data import only
    from tandem.training.predictors import train_predictor
    from tandem.training.predictors.outcomes import joined

    rows, manifest = joined(tables)
    predictor = train_predictor(
        strategy,
        (only(rows, sets), manifest),
        take_pair(manifest, how),
        unit=how["unit"],
        seed=how["seed"],
        command=command_line(),
        say=note,
    )
    path = predictor.save(out or Path("classifiers") / f"{predictor.mentor}+{predictor.intern}")
    emit(json.loads(path.read_text(encoding="utf-8")), as_json, lambda: _view(predictor))
    note(f"written to {path}")


def _train_published(tables: list[Table], sets: list[str], out: Path | None, as_json: bool) -> None:
    """Fit the published classifier, with the seed of its code; it has a form, and a place, of its own."""
    from tandem.ladder import parse_ladder
    from tandem.sufficiency.published import FILE
    from tandem.training.data import only
    from tandem.training.predictors.outcomes import joined
    from tandem.training.published import fit_published

    rows, manifest = joined(tables)
    pair = {role: manifest[role] for role in ("mentor", "intern")}
    identity = f"{pair['mentor']}+{pair['intern']}"
    fitted = fit_published(only(rows, sets), parse_ladder(manifest["ladder"]), name=identity, **pair)
    folder = out or Path("classifiers") / identity
    fitted.save(folder)
    shown = fitted.model_dump(mode="json", include={"id", "ladder", "thresholds", "data"})
    shown["data"].pop("seen")
    emit(shown, as_json, lambda: [f"{name}: {value}" for name, value in shown.items()])
    note(f"written to {folder / FILE}")


def _view(predictor: Predictor) -> Iterator[Any]:
    from tandem.costs import LABELS

    figures = predictor.figures
    rows: dict[str, Mapping[str, Any]] = {**figures.get("anchors", {}), "held out": figures.get("held_out", {})}
    rows |= {f"  {name}": own for name, own in figures.get("held_out_by_set", {}).items()}
    yield table(
        ("", "accuracy", LABELS[figures.get("unit", "tflops")], "mentor tokens", "gain over the chord [95 %]"),
        ((name, *_cells(own)) for name, own in rows.items()),
        title=f"{predictor.strategy}: {predictor.mentor} + {predictor.intern}",
    )
    settings = ", ".join(f"{name} {value:g}" for name, value in predictor.settings.items())
    yield f"decides by: {settings or 'nothing'}"
    yield from (f"- {line}" for line in predictor.notes)


def _cells(figures: Mapping[str, Any]) -> Iterator[str]:
    from tandem.cli.classifiers import interval

    for value in map(figures.get, ("accuracy", "cost", "mentor_tokens")):
        yield "" if value is None else f"{value:.3f}" if 0.1 <= value < 10 or not value else f"{value:.3g}"
    gain = figures.get("gain_over_chord") or {}
    yield "" if gain.get("value") is None else interval(gain)


def _evaluate(
    training: Table,
    tests: tuple[Path, ...],
    test_sets: list[str],
    how: dict[str, Any],
    report: Path | None,
    as_json: bool,
) -> None:
    from tandem.reports.frontier import evaluate, markdown
    from tandem.storage.files import write_whole
    from tandem.training.data import check_same, only, read_collection
    from tandem.training.published import published_baseline

    parts = [read_collection(path) for path in tests]
    for path, (_, manifest) in zip(tests, parts, strict=True):
        check_same(training[1], manifest, f"the table in {path}")
    rows = only([row for part, _ in parts for row in part], test_sets)
    found = evaluate(
        training,
        (rows, parts[0][1]),
        take_pair(training[1], how),
        baselines={"published": published_baseline},
        say=note,
        **how,
    )
    text = markdown(found)
    if report:
        write_whole(report, text, parents=True)
        write_whole(report.with_suffix(".json"), json.dumps(found, indent=1) + "\n", parents=True)
        note(f"written: {report}, {report.with_suffix('.json')}")
    emit(found, as_json, lambda: [text])
