"""One problem's events in a terminal: insight, decisions, answer and cost as they arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from rich.console import Console
from rich.text import Text

from tandem.types import AnswerDelta, CallDelta, Decision, Event, InsightDelta, Solution, ThinkingDelta


def describe(decision: Decision) -> str:
    verdict = {"stop": "stop: the intern answers", "go_on": "go on", "answer": "the mentor answers"}[decision.action]
    figures = ""
    if decision.sufficiency is not None:
        figures = f"sufficiency {decision.sufficiency:.2f}"
        if decision.threshold is not None:
            figures += f" against {decision.threshold:.2f}"
        if not decision.calibrated:
            figures += " (uncalibrated)"
    return f"{decision.level:>6}  {figures}  ->  {verdict} ({decision.reason})"


def plain(text: str) -> str:
    """Return a text without control characters: a model may write anything."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\t", "    "))


class Watcher:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.solution: Solution | None = None
        self._section = ""
        self._thinking = False
        self._answering = False
        self._fresh_line = True

    def show(self, event: Event) -> None:
        if isinstance(event, InsightDelta):
            if event.section and event.section != self._section:
                self._section = event.section
                self._print(f"{'' if self._fresh_line else chr(10)}{event.section.capitalize()}: ", "bold cyan")
            self._print(event.text, "cyan")
        elif isinstance(event, Decision):
            self._print(f"{'' if self._fresh_line else chr(10)}[{describe(event)}]\n", "yellow")
        elif isinstance(event, ThinkingDelta):
            if not self._thinking:
                self._print(f"{'' if self._fresh_line else chr(10)}[thinking] ", "dim")
                self._thinking = True
            self._print(event.text, "dim")
        elif isinstance(event, AnswerDelta):
            if not self._answering:
                self.console.print()
                self._answering = True
            self._print(event.text)
        elif isinstance(event, CallDelta):
            self._print(f"\n{event.name} {event.arguments}" if event.name else event.arguments, "magenta")
        else:
            self.solution = event
            self.console.print("\n")
            self.console.print(Text(plain(str(event)), style="green"))

    def break_off(self) -> None:
        if not self._fresh_line:
            self._print("\n")

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(plain(text), style=style), end="", soft_wrap=True)
        self._fresh_line = text.endswith("\n")


async def watch(events: AsyncGenerator[Event, None], console: Console) -> Solution:
    watcher = Watcher(console)
    try:
        async with aclosing(events):
            async for event in events:
                watcher.show(event)
    except BaseException:
        watcher.break_off()
        raise
    assert watcher.solution is not None
    return watcher.solution
