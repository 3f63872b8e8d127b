"""What ships recorded: real problems of the demo pair, played where no model is here, and the rows of each model alone.

``data/recorded`` has folders of finished runs, as `tandem run` and `tandem compare` wrote them, each with its command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tandem.cli.default_pair import what_is_missing
from tandem.cli.demo_replay import open_replay
from tandem.cli.demo_show import EASY, show_recorded
from tandem.cli.demo_view import fits
from tandem.models.default_pair import DEMO_PAIR
from tandem.paths import shipped

if TYPE_CHECKING:
    from rich.console import Console


class Played(NamedTuple):
    """A problem of a recorded run, and what it shows."""

    run: str
    problem: str
    shows: str


PLAYED = (
    Played("answer", "starter-06", "the intern alone suffices"),
    Played("insight", "starter-03", "an insight suffices"),
    Played("answer", "starter-11", "handed to the mentor"),
    Played("answer", "starter-02", "it goes wrong"),
)
RECORDED_RUNS = tuple(dict.fromkeys(one.run for one in PLAYED))


def recorded(name: str) -> Path:
    """Return the folder of a recorded run."""
    return shipped("data") / "recorded" / name


def command_of(name: str) -> str:
    """Return the command that recorded a run."""
    return (recorded(name) / "command.txt").read_text().strip()


async def play(console: Console, played: Sequence[Played] = PLAYED, speed: float | None = None) -> None:
    """Show recorded problems one after another, each marked as recorded."""
    speed = speed or (EASY if fits(console) else None)
    for number, one in enumerate(played, start=1):
        place = f" {number} of {len(played)}" if len(played) > 1 else ""
        pair = " and ".join(DEMO_PAIR)
        console.print(f"\nA recorded problem{place}: {one.shows} ({pair})\n", style="bold", soft_wrap=True)
        stage, events = open_replay(recorded(one.run), one.problem, speed)
        await show_recorded(stage, events, console)


def how_to_go_on() -> list[str]:
    """Return lines that say how the problems were recorded, and how to see one live."""
    first = [f"First, as these models are not on this machine: {missing}"] if (missing := what_is_missing()) else []
    return [
        *(f"Recorded by: {command_of(run)}" for run in RECORDED_RUNS),
        *first,
        'One live: tandem demo "What is 17*23?"   Ten live, beside each model alone: tandem demo --tour',
    ]
