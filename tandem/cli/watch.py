"""One problem's events in a terminal: insight, decisions, answer and cost as they arrive."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from tandem.types import AnswerDelta, Decision, Event, InsightDelta, Solution


def describe(decision: Decision) -> str:
    """Return a decision as one line."""
    verdict = {"stop": "stop: the intern answers", "go_on": "go on", "answer": "the mentor answers"}[decision.action]
    figures = ""
    if decision.sufficiency is not None:
        figures = f"sufficiency {decision.sufficiency:.2f}"
        if decision.threshold is not None:
            figures += f" against {decision.threshold:.2f}"
        if not decision.calibrated:
            figures += " (uncalibrated)"
    return f"{decision.level:>6}  {figures}  ->  {verdict} ({decision.reason})"


def watch(events: Iterable[Event], console: Console) -> Solution:
    """Print events as they come and return the solution."""
    solution: Solution | None = None
    section, answering = "", False
    for event in events:
        if isinstance(event, InsightDelta):
            if event.section and event.section != section:
                section = event.section
                console.print(Text(f"\n{section.capitalize()}: ", style="bold cyan"), end="", soft_wrap=True)
            console.print(Text(event.text.strip("\n"), style="cyan"), end="", soft_wrap=True)
        elif isinstance(event, Decision):
            console.print(Text(f"\n[{describe(event)}]", style="yellow"))
        elif isinstance(event, AnswerDelta):
            if not answering:
                console.print()
                answering = True
            console.print(Text(event.text), end="", soft_wrap=True)
        else:
            solution = event
    assert solution is not None
    console.print("\n")
    console.print(Text(str(solution), style="green"))
    return solution
