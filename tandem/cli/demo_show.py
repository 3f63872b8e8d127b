"""One problem on the terminal until its last event: the picture where it fits, else plain lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from rich.console import Console
from rich.live import Live

from tandem.cli.demo_stage import Stage
from tandem.cli.demo_view import DemoView, fits
from tandem.cli.watch import plain, watch
from tandem.types import Event

EASY = 40.0  # tokens a second that can be followed, for what takes no time
_FRAMES = 12  # a second


async def show(stage: Stage, events: AsyncGenerator[Event, None], console: Console) -> None:
    if fits(console):
        await _draw(stage, events, console)
    else:
        await watch(events, console)


async def show_recorded(stage: Stage, events: AsyncGenerator[Event, None], console: Console) -> None:
    """Show a replay, in plain lines with what is beside the events in the picture: question and verdict."""
    if fits(console):
        await _draw(stage, events, console)
        return
    console.print(f"{plain(stage.question)}\n", soft_wrap=True)
    await watch(events, console)
    console.print(f"{'right' if stage.verdict else 'wrong'} (the reference: {plain(stage.reference or '')})")


async def _draw(stage: Stage, events: AsyncGenerator[Event, None], console: Console) -> None:
    """Draw the picture until the last event; then leave the whole of it on the terminal, however it ended."""
    try:
        with Live(DemoView(stage, console), console=console, screen=True, auto_refresh=False) as live:

            async def draw() -> None:
                while True:
                    live.refresh()
                    await asyncio.sleep(1 / _FRAMES)

            drawing = asyncio.create_task(draw())
            try:
                async with aclosing(events):
                    async for event in events:
                        stage.take(event)
            finally:
                drawing.cancel()
    finally:
        console.print(DemoView(stage, console, whole=True))
