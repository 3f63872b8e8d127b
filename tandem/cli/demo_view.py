"""The picture of a problem being solved: both models side by side, decisions with their meters, and the bill."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tandem.cli.demo_stage import Block, Stage, written
from tandem.cli.watch import describe, plain
from tandem.ledger import Ledger, Role
from tandem.thinking import split_thinking

ROLES: tuple[Role, Role] = ("mentor", "intern")
SIDE_BY_SIDE = 80  # columns; narrower terminals have the panes one above the other
LEAST = (40, 16)  # columns and lines, below which there is no picture
_METER = (20, 8)  # cells of a meter; and on a narrow terminal
_DECISIONS = 6  # rows at most, while it is going on
_QUESTION = 3
_COLOURS: dict[Role, str] = {"mentor": "cyan", "intern": "magenta"}
_WORDS = {"insight": "insight", "probe": "discarded draft", "answer": "answer", "score": "score"}


def fits(console: Console) -> bool:
    width, height = console.size
    return console.is_terminal and not console.is_dumb_terminal and width >= LEAST[0] and height >= LEAST[1]


@dataclass(slots=True)
class DemoView:
    """A stage as something that rich prints: as high as the terminal, or (`whole`) as high as it takes."""

    stage: Stage
    console: Console
    whole: bool = False

    def __rich__(self) -> RenderableType:
        width, height = self.console.size
        head, foot = self._head(width), self._foot(width)
        left = None if self.whole else height - 1 - len(head) - len(foot)
        return Group(*head, self._panes(width, left), *foot)

    def _head(self, width: int) -> list[Text]:
        stage = self.stage
        title = Text.assemble((" tandem demo ", "bold reverse"), "  strategy ", (plain(stage.strategy), "bold"))
        title.append(f"   pair {plain(stage.names['mentor'])} + {plain(stage.names['intern'])}")
        if stage.note:
            title.append(f"   {stage.note}", "yellow")
        title.truncate(width, overflow="ellipsis")
        question = list(Text(plain(stage.question).strip(), style="italic").wrap(self.console, width))
        if not self.whole and len(question) > _QUESTION:
            question = question[:_QUESTION]
            question[-1].truncate(width - 2)
            question[-1].append(" …")
        return [title, *question]

    def _panes(self, width: int, height: int | None) -> RenderableType:
        stacked = width < SIDE_BY_SIDE
        inner = width - 4 if stacked else (width - 1) // 2 - 4
        texts = {role: self._lines(role, inner) for role in ROLES}
        longest = max(len(lines) for lines in texts.values())
        room = longest if height is None else max((height // 2 if stacked else height) - 2, 1)
        panels = []
        for role, lines in texts.items():
            shown = max(len(lines), 1) if stacked and height is None else room
            panels.append(self._panel(role, lines[-shown:], shown + 2))
        if stacked:
            return Group(*panels)
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0), pad_edge=False)
        for _ in panels:
            grid.add_column(ratio=1)
        grid.add_row(*panels)
        return grid

    def _panel(self, role: Role, lines: list[Text], height: int) -> Panel:
        stage, colour = self.stage, _COLOURS[role]
        answers = stage.solution is not None and stage.solution.answered_by == role
        title = Text.assemble((f" {role} ", f"bold {colour}"), f"{stage.tokens(role)} tokens ")
        if answers:
            title.append("answered ", "bold green")
        border = "green" if answers else colour if any(not b.closed for b in written(stage, role)) else "dim"
        return Panel(Text("\n").join(lines), title=title, title_align="left", border_style=border, height=height)

    def _lines(self, role: Role, width: int) -> list[Text]:
        text = Text()
        for block in written(self.stage, role):
            text.append_text(_block(block)).append("\n")
        text.rstrip()
        return list(text.wrap(self.console, width)) if text else []

    def _foot(self, width: int) -> list[Text]:
        stage = self.stage
        ascii_only = self.console.options.ascii_only
        rows = min(_DECISIONS, max((self.console.height - 12) // 3, 1))  # a low terminal is for the text first
        shown = stage.decisions if self.whole else stage.decisions[-rows:]
        foot = []
        if len(shown) < len(stage.decisions):
            foot.append(Text(f"{len(stage.decisions) - len(shown)} earlier decisions", "dim"))
        for decision in shown:
            cells = _METER[width < SIDE_BY_SIDE]
            meter = _meter(decision.sufficiency, decision.threshold, cells, ascii_only=ascii_only)
            row = Text.assemble(meter, " ", (plain(describe(decision)), "yellow"))
            if self.whole:
                foot += row.wrap(self.console, width)
                continue
            row.truncate(width, overflow="ellipsis")
            foot.append(row)
        foot += Text(self._bill(), style="bold").wrap(self.console, width)
        if stage.solution is not None:
            foot += self._end(width)
        return foot

    def _bill(self) -> str:
        stage = self.stage
        parts = [f"{role} {stage.tokens(role)} tokens" for role in ROLES]
        if probe := stage.ledger.probe_tokens:
            parts[-1] += f" ({probe} in discarded drafts)"
        parts += money(stage.ledger)
        if stage.seconds is not None:
            parts.append(f"{stage.seconds:.1f} s" + (" (slowed)" if stage.speed and not stage.replayed else ""))
        over = stage.solution is not None
        if not over and any(not b.closed for b in stage.blocks) and stage.ledger.tflops is not None:
            parts[-1] += "; calls in flight not yet priced"
        return ("in all: " if over else "so far: ") + ", ".join(parts)

    def _end(self, width: int) -> list[Text]:
        stage, solution = self.stage, self.stage.solution
        assert solution is not None
        answer = plain(solution.answer).strip() if solution.answer is not None else "(none found)"
        line = Text.assemble(("answer: ", "bold"), (answer, "bold green"))
        line.append(f"   by the {solution.answered_by} at level {plain(str(solution.level))}")
        if solution.truncated:
            line.append(", cut at its cap", "red")
        if stage.verdict is not None:
            line.append("   right" if stage.verdict else "   wrong", "green" if stage.verdict else "red")
            line.append(f" (the reference: {plain(stage.reference or '')})")
        lines = list(line.wrap(self.console, width))
        if not self.whole:
            lines = lines[:_QUESTION]
        if stage.estimate:
            lines += Text(stage.estimate, style="dim").wrap(self.console, width)
        if solution.synthetic:
            lines.append(Text("synthetic: a fake model wrote this", "yellow"))
        return lines


def money(ledger: Ledger) -> list[str]:
    found = [] if ledger.tflops is None else [f"{ledger.tflops:.3g} TFLOPs"]
    return found if ledger.usd is None else [*found, f"US$ {ledger.usd:.4f}"]


def _block(block: Block) -> Text:
    word = _WORDS[block.purpose] if block.closed or block.purpose != "answer" else "writing"
    state = f"{word}, {block.tokens} tokens" + (", stopped" if block.cut and block.purpose != "probe" else "")
    discarded = block.closed and block.purpose == "probe"
    text = Text(f"[{state}{'' if block.closed else ' …'}]\n", style="dim")
    thinking, answer = ("", block.text) if block.purpose == "insight" else split_thinking(block.text)
    if thinking:
        text.append(f"{plain(thinking).strip()}\n\n", "dim italic")
    text.append(plain(answer).strip("\n"), "dim" if discarded else "not dim")
    if block.error:
        text.append(f"\n{plain(block.error)}", "not dim red")
    return text


def _meter(p: float | None, threshold: float | None, size: int, *, ascii_only: bool) -> Text:
    """Return a bar from 0 to 1 with a mark at the threshold; blanks where there is no estimate."""
    if p is None:
        return Text(" " * (size + 2))
    full, empty, mark = ("#", "-", "|") if ascii_only else ("█", "░", "┃")
    cells = [full if k < round(p * size) else empty for k in range(size)]
    colour = "green" if threshold is None or p >= threshold else "red"
    text = Text("[")
    at = None if threshold is None else min(int(threshold * size), size - 1)
    for k, cell in enumerate(cells):
        text.append(mark if k == at else cell, "bold" if k == at else colour)
    return text.append("]")
