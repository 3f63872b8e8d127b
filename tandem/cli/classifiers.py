"""`tandem classifiers`: those that are shipped, and the card of one, with its reliability."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from tandem.sufficiency.classifier import ClassifierCard

_WIDTH = 40  # characters of the scale from 0 to 1


@click.group()
def classifiers() -> None:
    """List and show classifiers."""


@classifiers.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, nothing else.")
def list_(as_json: bool) -> None:
    """List the shipped classifiers, and those in ./classifiers."""
    from rich.console import Console
    from rich.table import Table

    from tandem.sufficiency.classifier import available, read_card

    folders = dict(available())
    for path in sorted(Path("classifiers").glob("*/card.json")):
        if path.parent.resolve() not in {folder.resolve() for folder in folders.values()}:
            folders[str(path.parent)] = path.parent
    cards = {name: read_card(folder) for name, folder in folders.items()}
    if as_json:
        keys = ("mentor", "intern", "ladder", "draft_tokens", "aim", "signal_version", "created")
        click.echo(
            json.dumps([{"id": name} | {key: getattr(card, key) for key in keys} for name, card in cards.items()])
        )
        return
    table = Table(title="Classifiers")
    for heading in ("id", "ladder", "draft", "aim", "problems", "AUROC", "gain over the chord"):
        table.add_column(heading, overflow="fold")
    for name, card in cards.items():
        found = card.figures
        gain = found.get("held_out", {}).get("gain_over_chord")
        table.add_row(
            name,
            card.ladder,
            str(card.draft_tokens or "all"),
            card.aim,
            str(sum(card.data.get("problems", {}).values())),
            str(found.get("out_of_fold", {}).get("pooled", {}).get("auroc", "")),
            _interval(gain) if gain else "",
        )
    Console().print(table)


@classifiers.command()
@click.argument("name", metavar="ID|DIR")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the reliability (needs matplotlib)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON on standard output, nothing else.")
def show(name: str, plot: Path | None, as_json: bool) -> None:
    """Show a classifier's card: its data, its figures on held-out problems, and how reliable its probabilities are."""
    from rich.console import Console

    from tandem.sufficiency.classifier import find_classifier, read_card

    card = read_card(find_classifier(name))
    if plot:
        _draw(card, plot)
        click.echo(f"written: {plot}", err=True)
    if as_json:
        click.echo(json.dumps(card.model_dump(mode="json")))
    else:
        print_card(Console(), card)


def print_card(console: Console, card: ClassifierCard) -> None:
    from rich.table import Table

    figures = card.figures
    console.print(f"[bold]{card.id}[/bold]  {card.created}", highlight=False)
    facts = {
        "mentor": card.mentor,
        "intern": card.intern,
        "aim": card.aim,
        "ladder": f"{card.ladder}  (collected: {card.collected_ladder})",
        "draft": f"{card.draft_tokens} tokens" if card.draft_tokens else "the whole answer",
        "thresholds": ", ".join(f"{level} {value:g}" for level, value in card.policy.thresholds.items()),
        "cost weight (lambda)": f"{card.policy.cost_weight:g}" if card.policy.upgrades else "none: thresholds alone",
        "problems": ", ".join(f"{count} {name}" for name, count in card.data.get("problems", {}).items()),
        "model": " ".join(str(value) for value in figures.get("model", {}).values()),
        "signals": f"version {card.signal_version}, {card.estimator}, {len(card.features)} features",
    }
    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        table.add_row(key, value)
    console.print(table, highlight=False)
    if "held_out" in figures:
        console.print(_strategies(figures))
    if "out_of_fold" in figures:
        console.print(_sufficiency(figures["out_of_fold"]))
    if "reliability" in figures:
        console.print("Reliability (o: what was right, |: what was said; the scale is 0 to 1)", highlight=False)
        for line in reliability_lines(figures["reliability"]):
            console.print(line, highlight=False, markup=False)
    if "certificate" in figures:
        print_certificate(console, figures["certificate"])
    for note in card.notes:
        console.print(f"- {note}", highlight=False, markup=False)


def _strategies(figures: Mapping[str, Any]) -> Any:
    from rich.table import Table

    held = figures["held_out"]
    table = Table(title=f"On {held['problems']} held-out problems")
    for heading in ("strategy", "accuracy", "TFLOPs", "mentor tokens"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    rows = {"this classifier": held} | figures["anchors"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["tflops"]):
        table.add_row(name, f"{row['accuracy']:.3f}", f"{row['tflops']:.3f}", f"{row['mentor_tokens']:.0f}")
    table.caption = f"gain over the chord: {_interval(held['gain_over_chord'])}"
    return table


def _sufficiency(figures: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="Sufficiency, out of fold")
    for heading in ("level", "answers", "right", "AUROC", "Brier", "calibration error"):
        table.add_column(heading, justify="left" if heading == "level" else "right")
    for level, row in figures.items():
        auroc = "" if row["auroc"] is None else f"{row['auroc']:.3f}"
        values = (f"{row['right']:.3f}", auroc, f"{row['brier']:.3f}", f"{row['calibration_error']:.3f}")
        table.add_row(level, str(row["n"]), *values)
    return table


def _interval(found: Mapping[str, float | None]) -> str:
    if found["value"] is None:
        return "none"
    return f"{found['value']:+.3f} [{found['low'] or 0:+.3f}, {found['high'] or 0:+.3f}]"


def reliability_lines(table: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the reliability table as lines of text, one for each tenth of the scale that occurs."""
    lines = []
    for row in table:
        cells = [" "] * (_WIDTH + 1)
        cells[round(row["said"] * _WIDTH)] = "|"
        cells[round(row["right"] * _WIDTH)] = "o"
        lines.append(f"  {row['from']:.1f}-{row['from'] + 0.1:.1f} {row['n']:>6.0f} [{''.join(cells)}]")
    return lines


def print_certificate(console: Console, found: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"Loss at most {found['limit']:g} with {found['confidence']:.0%} confidence")
    for heading in ("test", "mean loss", "decided differently", "p"):
        table.add_column(heading, justify="right")
    for number, test in enumerate(found["tests"], start=1):
        table.add_row(str(number), f"{test['mean_loss']:+.4f}", str(test["differ"]), f"{test['p']:.4f}")
    table.caption = f"{found['passed']} of {found['points']} points passed on {found['problems']} problems"
    console.print(table)


def _draw(card: ClassifierCard, path: Path) -> None:
    from tandem.errors import UsageError

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
