"""`tandem classifiers`: those that are shipped, and the card of one, with its reliability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.grouped import CommandGroup
from tandem.cli.options import PATH, rate_options
from tandem.cli.output import emit, note, plain_table, table
from tandem.errors import UsageError
from tandem.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from tandem.costs import Unit
    from tandem.sufficiency.classifier import ClassifierCard

_WIDTH = 40  # characters of the scale from 0 to 1


@click.group(cls=CommandGroup)
def classifiers() -> None:
    """List, show and evaluate classifiers.

    \b
    Examples:
      tandem classifiers list
      tandem classifiers show qwen2.5-coder-1.5b+qwen2.5-coder-0.5b
      tandem classifiers evaluate classifiers/my-pair collected-test
    """


@classifiers.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, nothing else.")
def list_(as_json: bool) -> None:
    """List the shipped classifiers, and those in ./classifiers."""
    from tandem.sufficiency.classifier import available, read_card

    folders = dict(available())
    for path in sorted(Path("classifiers").glob("*/card.json")):
        if path.parent.resolve() not in {folder.resolve() for folder in folders.values()}:
            folders[str(path.parent)] = path.parent
    cards = {name: read_card(folder) for name, folder in folders.items()}
    keys = ("mentor", "intern", "ladder", "draft_tokens", "aim", "signal_version", "created")
    rows = [{"id": name} | {key: getattr(card, key) for key in keys} for name, card in cards.items()]
    emit(rows, as_json, lambda: (line for name, card in cards.items() for line in _glance(name, card)))


def _glance(name: str, card: ClassifierCard) -> Iterator[str]:
    """Yield three short lines of a classifier: a row of a table with its long names fits no terminal."""
    gain = card.figures.get("held_out", {}).get("gain_over_chord")
    auroc = card.figures.get("out_of_fold", {}).get("pooled", {}).get("auroc")
    problems = counted(sum(card.data.get("problems", {}).values()), "problem")
    yield name
    yield f"    ladder {card.ladder}, draft {card.draft_tokens or 'all'}, for {card.aim}; trained on {problems}"
    figures = [f"AUROC {auroc:.3f}"] if auroc is not None else []
    figures += [f"gain over the chord {interval(gain)}"] if gain else []
    yield f"    {', '.join(figures) or 'no figures'}"


@classifiers.command()
@click.argument("name", metavar="ID|DIR")
@click.option("--plot", type=PATH, metavar="FILE", help="Draw the reliability (needs matplotlib).")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON on standard output, nothing else.")
def show(name: str, plot: Path | None, as_json: bool) -> None:
    """Show a classifier's card: its data, its figures on held-out problems, and how reliable its probabilities are."""
    from tandem.sufficiency.classifier import find_classifier, read_card

    card = read_card(find_classifier(name))
    if plot:
        _draw(card, plot)
        note(f"written: {plot}")
    emit(card.model_dump(mode="json"), as_json, lambda: card_view(card))


@classifiers.command()
@click.argument("name", metavar="ID|DIR")
@click.argument("tables", metavar="COLLECTION...", type=PATH, nargs=-1, required=True)
@click.option("--aim", "aims", multiple=True, metavar="AIM", help="Only the points for this aim; may be repeated.")
@click.option("--prefix-cache", is_flag=True, help="Price the intern's prompts as with a prefix cache.")
@rate_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON on standard output, nothing else.")
def evaluate(name: str, tables: tuple[Path, ...], aims: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Replay a classifier's points on COLLECTIONs of problems that it was not trained on, in every known unit.

    \b
    Examples:
      tandem classifiers evaluate classifiers/my-pair collected-test
      tandem classifiers evaluate classifiers/my-pair collected-test --aim accuracy --prices prices.yaml
    """
    from tandem.cli.train import take_pair
    from tandem.costs import default_unit
    from tandem.reports.points import evaluate_points, points_markdown
    from tandem.sufficiency.classifier import load_classifier
    from tandem.training.data import check_same, read_collection
    from tandem.training.replay import Pair

    classifier, parts = load_classifier(name), [read_collection(path) for path in tables]
    for path, (_, manifest) in zip(tables, parts, strict=True):
        check_same(classifier.card.model_dump(), manifest, f"the table in {path}")
    cache, manifest = how.pop("prefix_cache"), parts[0][1]
    specs = take_pair(manifest, how)
    pair = Pair(*specs, cache, default_unit(*specs))
    found = evaluate_points(classifier, ([row for rows, _ in parts for row in rows], manifest), pair, aims)
    emit(found, as_json, lambda: points_markdown(found))


def card_view(card: ClassifierCard) -> Iterator[Any]:
    from rich.table import Table
    from rich.text import Text

    from tandem.costs import LABELS

    figures = card.figures
    yield Text.assemble((card.id, "bold"), f"  {card.created}")
    facts = {
        "mentor": card.mentor,
        "intern": card.intern,
        "aim": f"{card.aim}, costs in {LABELS[card.unit]}",
        "ladder": f"{card.ladder}  (collected: {card.collected_ladder})",
        "draft": f"{card.draft_tokens} tokens" if card.draft_tokens else "the whole answer",
        "thresholds": ", ".join(f"{level} {value:g}" for level, value in card.policy.thresholds.items()),
        "cost weight (lambda)": f"{card.policy.cost_weight:g}" if card.policy.upgrades else "none: thresholds alone",
        "problems": ", ".join(f"{count} {name}" for name, count in card.data.get("problems", {}).items()),
        "model": " ".join(str(value) for value in figures.get("model", {}).values()),
        "signals": f"version {card.signal_version}, {card.estimator}, {len(card.features)} features",
    }
    grid = Table(show_header=False, box=None)
    for key, value in facts.items():
        grid.add_row(key, value)
    yield grid
    if "held_out" in figures:
        yield _strategies(figures, card.unit)
    yield from _points(card)
    if "out_of_fold" in figures:
        yield _sufficiency(figures["out_of_fold"])
    if "reliability" in figures:
        yield "Reliability (o: the share that was right, |: the prediction; the scale is 0 to 1)"
        yield from reliability_lines(figures["reliability"])
    if "certificate" in figures:
        yield certificate_table(figures["certificate"])
    yield from (f"- {line}" for line in card.notes)


def _strategies(figures: Mapping[str, Any], unit: Unit) -> Table:
    from tandem.costs import LABELS

    held = figures["held_out"]
    rows = sorted(({"this classifier": held} | figures["anchors"]).items(), key=lambda item: _cost(item[1]))
    return table(
        ("strategy", "accuracy", LABELS[unit], "mentor tokens"),
        ((name, f"{r['accuracy']:.3f}", f"{_cost(r):.3g}", f"{r['mentor_tokens']:.0f}") for name, r in rows),
        title=f"On {held['problems']} held-out problems",
        caption=f"gain over the chord: {interval(held['gain_over_chord'])}",
    )


def _points(card: ClassifierCard) -> Iterator[Any]:
    """Yield a table of the points in each unit; cost is a share of the mentor's, gain is over the chord."""
    from tandem.costs import LABELS

    if card.points:
        yield "Points, out of fold: each was chosen without the problems that it is evaluated on"
    for unit, by_aim in card.points.items():
        rows = [
            (aim, kind, point.ladder.replace(",", ", "), str(point.draft_tokens or "all"), point.figures["held_out"])
            for aim, by_kind in by_aim.items()
            for kind, point in by_kind.items()
            if "held_out" in point.figures
        ]
        headings = ("aim", "task", "ladder", "draft", "accuracy", "cost", "gain")
        yield plain_table(
            headings,
            (
                (*named, f"{f['accuracy']:.3f}", f"{f['cost_ratio']['value'] or 0:.0%}", interval(f["gain_over_chord"]))
                for *named, f in rows
            ),
            left=4,
            whole=[name for name in headings if name != "ladder"],
            title=f"in {LABELS[unit]}; cost: of the mentor's; gain: over the chord",
        )


def _sufficiency(figures: Mapping[str, Any]) -> Table:
    from tandem.ladder import by_level

    keys = ("right", "auroc", "brier", "calibration_error")
    return table(
        ("level", "answers", "right", "AUROC", "Brier", "calibration error"),
        (
            (level, str(row["n"]), *("" if row[key] is None else f"{row[key]:.3f}" for key in keys))
            for level, row in by_level(figures).items()
        ),
        title="Sufficiency, out of fold",
    )


def interval(found: Mapping[str, float | None]) -> str:
    if found["value"] is None:
        return "none"
    return f"{found['value']:+.3f} [{found['low'] or 0:+.3f}, {found['high'] or 0:+.3f}]"


def reliability_lines(rows: Sequence[Mapping[str, float]]) -> Iterator[str]:
    for row in rows:
        cells = [" "] * (_WIDTH + 1)
        cells[round(row["said"] * _WIDTH)] = "|"
        cells[round(row["right"] * _WIDTH)] = "o"
        yield f"  {row['from']:.1f}-{row['from'] + 0.1:.1f} {row['n']:>6.0f} [{''.join(cells)}]"


def certificate_table(found: Mapping[str, Any]) -> Table:
    return table(
        ("test", "mean loss", "decided differently", "p"),
        (
            (str(number), f"{test['mean_loss']:+.4f}", str(test["differ"]), f"{test['p']:.4f}")
            for number, test in enumerate(found["tests"], start=1)
        ),
        left=0,
        title=f"Loss at most {found['limit']:g} with {found['confidence']:.0%} confidence",
        caption=f"{found['passed']} of {found['points']} points passed on {found['problems']} problems",
    )


def _draw(card: ClassifierCard, path: Path) -> None:
    if "reliability" not in card.figures:
        raise UsageError(f"the card of {card.id} has no reliability table; train it again")
    try:
        import matplotlib.figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install matplotlib") from None
    figure = matplotlib.figure.Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    rows = card.figures["reliability"]
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.plot([row["said"] for row in rows], [row["right"] for row in rows], marker="o")
    axes.set(xlabel="sufficiency", ylabel="share right", xlim=(0, 1), ylim=(0, 1), title=card.id)
    figure.savefig(path)


def _cost(figures: Mapping[str, Any]) -> float:
    """Return a replayed mean cost; cards of format 4 and before call it by its only unit."""
    return float(figures["cost"] if "cost" in figures else figures["tflops"])
