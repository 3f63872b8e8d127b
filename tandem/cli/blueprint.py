"""`tandem blueprint`: make the blueprint of a pair for a kind of problem, and show one with scores and price."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.data_options import dataset_options
from tandem.cli.grouped import CommandGroup, GroupedCommand
from tandem.cli.options import (
    PATH,
    POSITIVE,
    cap_options,
    code_options,
    concurrency_option,
    open_code_sandbox,
    pair_options,
)
from tandem.cli.output import emit, note, plain_table
from tandem.cli.serving_options import serving_options
from tandem.errors import UsageError
from tandem.words import counted

if TYPE_CHECKING:
    from tandem.sufficiency.blueprint_card import BlueprintCard


@click.group(cls=CommandGroup)
def blueprint() -> None:
    """Make and show blueprints: guidance that a mentor writes once for a kind of problem.

    \b
    Examples:
      tandem blueprint show
      tandem blueprint build --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --dataset gsm8k --split train \\
                             --limit 128 --out my-blueprints
    """


@blueprint.command(cls=GroupedCommand)
@pair_options
@serving_options
@dataset_options()
@code_options
@click.option("--candidates", type=int, metavar="N", default=10, help='Prompts to try, "no blueprint" with them.')
@click.option("--first", type=click.IntRange(1), metavar="N", default=8, help="Problems of the first round.")
@click.option("--rounds", type=click.IntRange(1, 8), metavar="N", default=3, help="Each has twice the problems.")
@click.option("--examples", type=click.IntRange(1), metavar="N", default=6, help="Problems the mentor is shown.")
@click.option("--held-out", type=int, metavar="N", default=64, help="Problems for evaluation only; 64 or more.")
@cap_options(".", default=768)
@concurrency_option(default=16, help="Calls at once.")
@click.option("--max-minutes", type=POSITIVE, metavar="M", help="Stop after so long.")
@click.option("--out", type=PATH, required=True, metavar="DIR", help="A new folder, or one to continue.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the file's content on standard output, nothing else.")
def build(as_json: bool, **options: Any) -> None:
    """Let the mentor write blueprints and search the best prompt; the same command continues where it stopped.

    \b
    Examples:
      tandem blueprint build --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --dataset gsm8k --split train \\
                             --limit 128 --out my-blueprints
      tandem run --strategy blueprint:my-blueprints --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b \\
                 --dataset gsm8k

    DIR/blueprints has the file; DIR/calls keeps what the models answered and is private. Everything is chosen on some
    of the problems; the held-out ones only report.
    """
    from tandem.cli.data_options import describe_data, load_problems
    from tandem.cli.live import BlueprintView
    from tandem.cli.serving_options import take_serving
    from tandem.cli.session import Session, command_line, make_folder, ready, same_command
    from tandem.datasets.cards import training_split
    from tandem.datasets.loaders import is_path
    from tandem.engine import Tandem
    from tandem.models.cache import ResponseCache
    from tandem.storage.lock import FolderLock
    from tandem.sufficiency.blueprint_card import NONE
    from tandem.training.blueprints.bench import CALLS, Bench
    from tandem.training.blueprints.build import BlueprintPlan, split
    from tandem.training.blueprints.build import build as search

    options["split"] = options["split"] or training_split(options["dataset"])
    data = describe_data(options)
    problems = load_problems(options)
    plan = BlueprintPlan(**{key: options.pop(key) for key in ("candidates", "first", "rounds", "examples", "held_out")})
    split(problems, plan)  # before a model is loaded
    sandbox = open_code_sandbox(options, problems, graded=True)
    out: Path = options.pop("out")
    concurrency, minutes = options.pop("concurrency"), options.pop("max_minutes")
    take_serving(options)
    engine = Tandem(strategy="fixed:low", concurrency=concurrency, **options)  # any strategy that calls both
    view, session = BlueprintView(), Session(out, same_command(), new=make_folder(out))

    async def work() -> BlueprintCard:
        async with engine:
            await ready(engine, view)
            bench = Bench(
                engine.mentor,
                engine.intern,
                engine.settings,
                recorder=ResponseCache(out / CALLS),
                sandbox=sandbox,
                concurrency=concurrency,
                max_seconds=minutes and minutes * 60,
                report=view,
            )
            name = Path(data["name"]).stem if is_path(data["name"]) else data["name"]
            return await search(bench, problems, plan, dataset=name, command=command_line(), source=data)

    lock = FolderLock(out)
    try:
        card = session.run(view, work)
    finally:
        lock.release()
    path = card.save(out)
    emit(card.as_dict(), as_json, lambda: _view(card))
    if as_json:
        return
    note(f"written: {path}")
    if card.chosen != NONE:
        note(f"use it with: --strategy blueprint:{out}")


@blueprint.command()
@click.argument("where", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, nothing else.")
def show(where: Path | None, as_json: bool) -> None:
    """Show the blueprints in WHERE (a file, or a folder of `build`), or those that are shipped."""
    from tandem.paths import shipped
    from tandem.sufficiency.blueprint_card import FOLDER, read_cards

    folders = [where] if where else sorted(path.parent for path in shipped("classifiers").glob(f"*/{FOLDER}"))
    cards = [card for folder in folders for card in read_cards(folder)]
    if where and not cards:
        raise UsageError(f"{where} holds no blueprint")
    emit([card.as_dict() for card in cards], as_json, lambda: (part for card in cards for part in _view(card)))


def _view(card: BlueprintCard) -> Iterator[Any]:
    from tandem.cli.watch import plain

    parts = list(dict.fromkeys(score.part for score in card.scores))
    made = plain_table(
        ("candidate", *parts, "tokens\nper problem"),
        (),
        whole=["candidate"],
        title=f"{card.mentor} for {card.intern}: {card.dataset} ({card.task})",
    )
    for candidate in card.candidates:
        own = [card.score(candidate.name, part) for part in parts]
        last = next((score for score in reversed(own) if score), None)
        tokens = f"{(last.prompt_tokens + last.completion_tokens) / last.n:.0f}" if last and last.n else ""
        chosen = candidate.name == card.chosen
        cells = [f"{score.right}/{score.n}" if score else "" for score in own]
        name = f"{candidate.name} (chosen)" if chosen else candidate.name
        made.add_row(name, *cells, tokens, style="bold" if chosen else None)
    yield made
    yield from map(plain, _lines(card))
    if card.text:
        yield plain(f"\n{card.text.text}")


def _lines(card: BlueprintCard) -> list[str]:
    held, offline = card.held_out, card.offline
    low, high = held.ci95
    lines = [
        f"held out: '{held.candidate}' against the plain prompt {100 * held.value:+.1f} points "
        f"(95 % from {100 * low:+.1f} to {100 * high:+.1f}; {held.won} won, {held.lost} lost of {held.n}; "
        f"p = {held.p:.2f})"
    ]
    price = [f"mentor {offline.mentor_tokens:,} tokens", f"intern {offline.intern_tokens:,} tokens"]
    if offline.spent.tflops is not None:
        price.append(f"{offline.spent.tflops:,.0f} TFLOPs")
    if offline.spent.usd is not None:
        price.append(f"US$ {offline.spent.usd:.4f}")
    lines.append(f"the search cost {', '.join(price)} in {counted(offline.calls, 'call')}")
    unit = "usd" if offline.spent.usd is not None else "tflops"
    even, name = offline.break_even[unit], "US$" if unit == "usd" else "TFLOPs"
    lines.append(
        f"repaid ({name}) after {even:,} problems that the mentor need not answer"
        if even is not None
        else f"never repaid by {name}: unknown, or a problem costs no less than the mentor's own answer"
    )
    if card.synthetic:
        lines.append("synthetic: a fake model wrote this")
    return [*lines, *(f"note: {note}" for note in card.notes)]
