"""`tandem signals`: what each signal of a collected table is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.grouped import command
from tandem.cli.options import PATH, rate_options, unit_option
from tandem.cli.output import emit, note
from tandem.errors import UsageError

if TYPE_CHECKING:
    from tandem.costs import Unit

_DRAFTS = "16,32,64,128,all"


@command()
@click.argument("collection", type=PATH)
@click.option("--draft", "drafts", default=_DRAFTS, help="Draft lengths, comma-separated.")
@click.option("--kind", type=click.Choice(["without", "with", "alone"]), multiple=True, help="Print only these.")
@click.option("--read", is_flag=True, help="Only problems with prompt signals, which are then evaluated too.")
@unit_option
@rate_options
@click.option("--seed", type=int, metavar="N", default=0, help="Seed of the folds and of the bootstrap.")
@click.option("--resamples", type=click.IntRange(50), default=500, metavar="N", help="Of the bootstrap.")
@click.option("--out", type=PATH, metavar="FILE", help="Write every figure as JSON too.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON on standard output, nothing else.")
def signals(
    collection: Path,
    drafts: str,
    kind: tuple[str, ...],
    read: bool,
    seed: int,
    resamples: int,
    out: Path | None,
    as_json: bool,
    unit: Unit | None,
    **how: Any,
) -> None:
    """Evaluate every signal on COLLECTION: AUROC, calibration error and gain over the chord, by draft length.

    \b
    COLLECTION is a folder with rows.jsonl (all candidates are made from its tokens' statistics) or with a committed
    table.jsonl.gz (what it holds). Each signal is left out of the standing set, or added to it, or stands alone;
    d is the difference to the standing set, [..] its 95 % interval over problems. Points are of accuracy.

    \b
    Examples:
      tandem signals collected
      tandem signals collected --draft 64,all --out ablation.json
      tandem signals collected --unit usd --prices prices.yaml
    """
    from tandem.cli.train import take_pair
    from tandem.collection.added_signals import read_raw
    from tandem.costs import LABELS, default_unit
    from tandem.ladder import parse_ladder
    from tandem.storage.files import write_whole
    from tandem.training.ablation import ablate
    from tandem.training.data import read_collection
    from tandem.training.replay import Pair

    lengths = drafts.split(",")
    if wrong := [length for length in lengths if length != "all" and not length.isdigit()]:
        raise UsageError(f"--draft takes token counts and 'all', not '{wrong[0]}'")
    rows, manifest = read_raw(collection) or read_collection(collection)
    specs = take_pair(manifest, how)
    unit = unit or default_unit(*specs)
    lines = ablate(
        rows,
        parse_ladder(manifest["ladder"]),
        Pair(*specs, unit=unit),
        lengths,
        seed=seed,
        resamples=resamples,
        read=read,
        say=note,
    )
    if out:
        write_whole(out, json.dumps(lines, indent=1) + "\n", parents=True)
    shown = (line for line in lines if not kind or line["kind"] in (*kind, "standing"))
    counted = f"Gains over the chord are at equal cost in {LABELS[unit]}."
    emit(lines, as_json, lambda: [counted, _HEAD, *map(_row, shown)])


_EXTRA_CALL = {"": "", "pass": " (one pass)", "draft": " (2 drafts)"}
_HEAD = (
    f"{'draft':>5} {'kind':<8} {'signal':<30} {'AUROC':>6} {'d':>7} {'':<16} {'ECE':>6} "
    f"{'gain':>7} {'d':>7} {'':<16} {'curve':>7} {'d':>7}"
)


def _row(line: dict[str, Any]) -> str:
    pooled, gain, curve = line["auroc"]["pooled"], line["gain"], line["curve"]
    name = line["signal"] + _EXTRA_CALL[line["buys"]]
    return (
        f"{line['draft']:>5} {line['kind']:<8} {name:<30} {_number(pooled['value'], 6)} {_difference(pooled)} "
        f"{line['calibration_error']:>6.3f} {_number(gain['value'], 7)} {_difference(gain)} "
        f"{_number(curve['value'], 7)} {_difference(curve)}"
    ).rstrip()


def _number(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.3f}"


def _difference(figure: dict[str, Any]) -> str:
    ends = figure["difference_ci95"]
    interval = f"[{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends and figure["difference"] is not None else ""
    return f"{'' if figure['difference'] is None else format(figure['difference'], '+.3f'):>7} {interval:<16}"
