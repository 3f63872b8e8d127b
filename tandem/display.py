"""What a terminal or a notebook shows of results: readable representations, and the bar of work on many problems.

The HTML has no colours and no scripts of its own, so that it reads in light and dark themes; all text is escaped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

_DRAW_SECONDS = 0.1  # between two updates of a notebook's bar
_LONG = 'style="white-space: pre-wrap; overflow-wrap: anywhere; text-align: left; max-width: 60em"'
_NAME = 'style="text-align: left; vertical-align: top; font-weight: normal; opacity: 0.7"'


def brief(name: str, **facts: object) -> str:
    """Return one line for a repr, without the facts that are None."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in facts.items() if value is not None)})"


def facts_html(title: str, facts: Iterable[tuple[str, object]]) -> str:
    """Return a heading and a table of two columns: names and texts; facts that are None or empty are left out."""
    rows = "".join(
        f"<tr><th {_NAME}>{escape(name)}</th><td {_LONG}>{escape(str(value))}</td></tr>"
        for name, value in facts
        if value not in (None, "")
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def table_html(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """Return a heading and a table, whose first `left` columns are texts and the others figures; None is empty."""

    def line(cells: Sequence[object], tag: str) -> str:
        sides = ("left" if place < left else "right" for place in range(len(cells)))
        texts = ("" if cell is None else escape(str(cell)) for cell in cells)
        whole = (f'<{tag} style="text-align: {side}">{text}</{tag}>' for side, text in zip(sides, texts, strict=True))
        return f"<tr>{''.join(whole)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<div><strong>{escape(title)}</strong><table>{line(headings, 'th')}{body}</table></div>"


@contextmanager
def progress_bar(doing: str, total: int | None, wanted: bool | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; yield what is called with how many are done.

    `wanted` None: in a terminal and in a notebook, and nowhere else. That of a terminal is cleared at the end.
    """
    if _in_notebook() and wanted is not False:
        yield _notebook_bar(doing, total)
    elif wanted or (wanted is None and sys.stderr.isatty()):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(doing, total=total)
            yield lambda done: bars.update(task, completed=done)
    else:
        yield lambda done: None


def _in_notebook() -> bool:
    found = sys.modules.get("IPython")
    shell = found.get_ipython() if found else None
    return getattr(shell, "kernel", None) is not None


def _notebook_bar(doing: str, total: int | None) -> Callable[[int], None]:
    """Return a bar in the output of the cell; it needs no widgets, and is redrawn from the thread that counts."""
    from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

    def drawn(done: int) -> Any:
        bound = "" if total is None else f'max="{max(total, 1)}" value="{done}"'
        count = f"{done}" if total is None else f"{done}/{total}"
        return HTML(f"<div>{escape(doing)} <progress {bound}></progress> {count}</div>")

    handle = display(drawn(0), display_id=True)
    shown = time.monotonic()

    def show(done: int) -> None:
        nonlocal shown
        if handle is not None and (done == total or time.monotonic() - shown > _DRAW_SECONDS):
            shown = time.monotonic()
            handle.update(drawn(done))

    return show


__all__ = ["brief", "facts_html", "progress_bar", "table_html"]
