"""A long job as a terminal sees it: models made ready, progress, signals, and how to continue where it stopped."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from tandem.cli.live import LiveView
from tandem.engine import Tandem
from tandem.errors import LimitReached, TandemError, UsageError
from tandem.runs.store import PROBLEMS, RUN, SUMMARY
from tandem.storage.files import holds_something
from tandem.storage.lock import LOCK

_T = TypeVar("_T")
_OF_A_START = (RUN, PROBLEMS, LOCK, SUMMARY)  # what a run has before its first call


@dataclass(frozen=True, slots=True)
class Session:
    """One job in a folder, continued by `again`.

    `on_stop` is called when it is interrupted, before the user sees how to continue. A folder that is `new` is removed
    if the job fails before anything is written there.
    """

    folder: Path
    again: str
    on_stop: Callable[[], None] = lambda: None
    new: bool = False

    def run(self, view: LiveView, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Carry out the job under its view, and return what it gives.

        Raises KeyboardInterrupt after Ctrl-C or SIGTERM, LimitReached that says how to continue, TandemError.
        """
        try:
            with view:
                return asyncio.run(_heeding_signals(work))
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.on_stop()
            self.say("stopped; ")
            raise KeyboardInterrupt from None
        except LimitReached as limit:
            raise LimitReached(
                f"stopped: {limit}; what is done is in {self.folder}. Continue with {self.again}"
            ) from None
        except TandemError as error:
            if not holds_something(self.folder, beside=_OF_A_START):
                if self.new:
                    shutil.rmtree(self.folder, ignore_errors=True)
            elif not isinstance(error, UsageError):
                self.say()
            raise

    def say(self, what: str = "") -> None:
        click.echo(f"{what}what is done is in {self.folder}. Continue with {self.again}", err=True)

    def say_limit(self, limit: str | None) -> None:
        """Print which limit stopped the job, if one did, and how to continue."""
        if limit:
            click.echo(f"stopped: {limit}. Continue with {self.again}", err=True)


async def ready(engine: Tandem, view: LiveView) -> None:
    view.status("getting both models ready")
    await engine.prepare()
    view.status("")


async def _heeding_signals(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    task = asyncio.current_task()
    if task and threading.current_thread() is threading.main_thread():
        with suppress(NotImplementedError):  # Windows; elsewhere a batch system ends a job by SIGTERM
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work()


def make_folder(out: Path) -> bool:
    """Make the folder of a job; return whether it is new. Raises UsageError if it cannot be."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}; take another --out") from None
    return new


def command_line() -> str:
    """Return this command, without the user and password that an endpoint's address may have."""
    return "tandem " + shlex.join(map(_masked, sys.argv[1:]))


def command_with(other: click.Command, *, but: Collection[str] = (), more: Iterable[str] = ()) -> str:
    """Return another command with the options that this one was given and that it has too, `but` for some, and `more`.

    Quoted for a shell; without user and password of an endpoint's address.
    """
    ctx = click.get_current_context()
    theirs = {param.name for param in other.params} - set(but)
    words = ["tandem", str(other.name)]
    for param in ctx.command.params:
        value = ctx.params.get(str(param.name))
        given = ctx.get_parameter_source(str(param.name)) is not ParameterSource.DEFAULT
        if param.name in theirs and given and value not in (None, False, ()):
            for one in value if param.multiple else [value]:
                shown = ",".join(map(str, one)) if isinstance(one, tuple) else str(one)
                words += [param.opts[0]] if one is True else [param.opts[0], shown]
    return shlex.join(map(_masked, [*words, *more]))


def _masked(word: str) -> str:
    return re.sub(r"://[^/@]*@", "://***@", word)


def same_command() -> str:
    """Return the words for the same command once more, which is shown unless it has a password."""
    shown = command_line()
    if "://***@" in shown:
        return "the same command"
    if sys.argv[0].endswith(".py"):
        shown = f"python {sys.argv[0]}" + shown.removeprefix("tandem")
    return f"the same command: {shown}"
