"""Sessions on the pages: commands with their output, run again in order against two scripted endpoints.

A block of ```console holds `$ command` lines, each followed by what it printed; a block of ```text right after one of
```python holds what that program printed. A line `…` stands for output that is left out: before the first one stand the
first lines, after the last one the last, and a part between two begins at a line with its first two words.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from scripted_vendors import World, vendors, write_csv
from stub import Stub

ELIDED = "…"
WIDTH = 116
INTERN, SERVER = "http://gpu1:8000/v1", "http://127.0.0.1:8080"  # as the pages write them
NOT_HERE = ("export ", "pip ", "vllm ", "python -m venv", ". ", "make ")  # what prepares a machine
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
_VARY = (  # what the clock, the machine and the day decide
    r"\b20\d\d-\d\d-\d\d\b",
    r"\b\d+(\.\d+)? (?=tokens/s)",
    r"\b\d+(\.\d+)? s\b",
    r"\b\d:\d\d:\d\d\b",
)


@dataclass
class Step:
    """A command or a program, and where on the page its output stands."""

    command: str
    shown: str
    span: tuple[int, int]
    program: bool = False


def steps(text: str) -> Iterator[Step]:
    """Yield what a page runs, in its order."""
    for found in _BLOCK.finditer(text):
        if found[1] == "python":
            if found[3] is not None:
                yield Step(found[2], found[3], found.span(3), program=True)
            continue
        lines = found[2].splitlines(keepends=True)
        starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            first = start + 1
            while lines[first - 1].endswith("\\\n"):
                first += 1
            at = found.start(2) + sum(map(len, lines[:first]))
            shown = "".join(lines[first:end])
            command = "".join(lines[start:first]).removeprefix("$ ").replace("\\\n", " ").strip()
            yield Step(command, shown, (at, at + len(shown)))


def alike(text: str) -> str:
    """Return output without what differs from run to run."""
    for pattern in _VARY:
        text = re.sub(pattern, "*", text)
    return text


def cut(printed: str, shown: str) -> str:
    """Return as many of the first and last lines of an output as a page shows of it."""
    lines = []
    for line in printed.splitlines():
        wide = len(line) > WIDTH
        lines += textwrap.wrap(line, WIDTH, break_on_hyphens=False, break_long_words=False) if wide else [line.rstrip()]
    if ELIDED not in shown.splitlines():
        return "".join(f"{line}\n" for line in lines)
    first, *middle, last = f"\n{shown}".split(f"\n{ELIDED}\n")
    parts = [lines[: len(first.splitlines()[1:])]]
    for part in middle:
        own = part.splitlines()
        begins = " ".join(own[0].split()[:2])
        at = next((n for n, line in enumerate(lines) if line.startswith(begins)), 0)
        parts.append(lines[at : at + len(own)])
    parts.append(lines[len(lines) - len(last.splitlines()) :])
    return f"{ELIDED}\n".join("".join(f"{line}\n" for line in part) for part in parts)


@dataclass
class Session:
    """A folder with `mine.csv`, both endpoints, and the servers that commands have started."""

    folder: Path
    mentor: Stub
    intern: Stub
    fails: bool = False  # a page of errors: commands end with 1 or 2, without a key and with no endpoint
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    address: str = SERVER

    def run(self, step: Step) -> str | None:
        """Run a step; return what it printed, or None for one that prepares a machine. Fails where the step does."""
        if step.command.startswith(NOT_HERE):
            return None
        text = step.command.replace(INTERN, self.intern.url).replace(SERVER, self.address)
        if step.command.startswith("tandem serve ") and not self.fails:
            return self._as_written(self._serve(text))
        command = [sys.executable, "-c", text] if step.program else ["bash", "-c", text]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert (done.returncode in (1, 2)) if self.fails else done.returncode == 0, f"{step.command}\n{done.stdout}"
        return self._as_written(done.stdout)

    def _serve(self, text: str) -> str:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {text}"],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.servers.append(process)
        assert process.stdout
        printed = ""
        for line in process.stdout:
            printed += line
            if found := re.search(r"the page at (http://[\w.:]+)", line):
                self.address = found[1]
                return printed
        raise AssertionError(f"{text}\n{printed}")

    def _environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_") and not k.endswith("_API_KEY")}
        verbs = () if self.fails else ("SOLVE", "RUN", "COMPARE", "TUNE", "SERVE")
        there = {f"TANDEM_{verb}_MENTOR_ENDPOINT": self.mentor.url for verb in verbs}
        there |= {} if self.fails else {"OPENAI_API_KEY": "for-tests", "TANDEM_SERVE_PORT": "0"}
        scripts = str(Path(sys.executable).parent)
        return own | there | {
            "PATH": os.pathsep.join([scripts, own.get("PATH", "")]),
            "TANDEM_HOME": str(self.folder / "home"),
            "COLUMNS": "100",
        }  # fmt: skip

    def _as_written(self, printed: str) -> str:
        """Return output with the page's addresses; where the mentor is comes from the environment here."""
        printed = printed.replace(f"--mentor-endpoint {self.mentor.url} ", "").replace(self.address, SERVER)
        return printed.replace(self.intern.url, INTERN).replace(str(self.folder), "~")


@contextmanager
def session(folder: Path, *, fails: bool = False) -> Iterator[Session]:
    """Begin a session in an empty folder; end its servers."""
    write_csv(folder / "mine.csv", 200)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        stubs = vendors(lambda stub: stack.enter_context(portal.wrap_async_context_manager(stub)), World())
        begun = Session(folder, *stubs, fails=fails)
        try:
            yield begun
        finally:
            for process in begun.servers:
                process.terminate()
                process.wait(30)
                assert process.stdout
                process.stdout.close()


def again(text: str, folder: Path, *, fails: bool = False) -> str:
    """Return a page with the output that its commands and programs give now; what only the clock changed stays."""
    with session(folder, fails=fails) as begun:
        parts, end = [], 0
        for step in steps(text):
            printed = begun.run(step)
            if printed is None:
                assert not step.shown, f"{step.command} is not run, and has an output"
                continue
            made = cut(printed, step.shown)
            parts += [text[end : step.span[0]], step.shown if alike(made) == alike(step.shown) else made]
            end = step.span[1]
        return "".join([*parts, text[end:]])
