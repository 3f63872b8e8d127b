"""A search for a blueprint as a terminal sees it: models made ready, progress, and how to go on if it stopped."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tandem.cli.live import DRAW_SECONDS, LINE_SECONDS, Live, clock
from tandem.datasets.loaders import is_path
from tandem.engine import Tandem
from tandem.errors import LimitReached, TandemError, UsageError
from tandem.grading import Sandbox
from tandem.models.cache import ResponseCache
from tandem.storage.lock import FolderLock
from tandem.sufficiency.blueprint_card import BlueprintCard
from tandem.training.blueprints.bench import Bench, SearchProgress
from tandem.training.blueprints.build import BlueprintPlan
from tandem.training.blueprints.build import build as make
from tandem.types import Problem

CALLS = "calls"


class BlueprintJob:
    """One build in a folder, alone there."""

    def __init__(
        self,
        engine: Tandem,
        problems: list[Problem],
        data: dict[str, Any],
        plan: BlueprintPlan,
        sandbox: Sandbox | None,
        *,
        out: Path,
        concurrency: int,
        max_minutes: float | None,
    ) -> None:
        self._engine, self._problems, self._data, self._plan = engine, problems, data, plan
        self._sandbox, self._out, self._concurrency, self._max_minutes = sandbox, out, concurrency, max_minutes

    def carry_out(self) -> tuple[BlueprintCard, Path]:
        """Build, write the file, and return it with its path.

        Raises TandemError if the build cannot start or fails, LimitReached when the time is up, KeyboardInterrupt after
        Ctrl-C or SIGTERM; each but the first says how to go on.
        """
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write {self._out}: {error.strerror}; take another --out") from None
        lock = FolderLock(self._out)
        view = BlueprintView()
        try:
            with view:
                card = asyncio.run(self._run(view))
            return card, card.save(self._out)
        except (KeyboardInterrupt, asyncio.CancelledError):
            view.say(f"stopped; what is done is in {self._out}. Go on with {_again()}")
            raise KeyboardInterrupt from None
        except LimitReached as limit:
            raise LimitReached(f"stopped: {limit}; what is done is in {self._out}. Go on with {_again()}") from None
        except UsageError:
            raise
        except TandemError:
            view.say(f"what is done is in {self._out}. Go on with {_again()}")
            raise
        finally:
            lock.release()

    async def _run(self, view: BlueprintView) -> BlueprintCard:
        task = asyncio.current_task()
        if task and threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with self._engine as engine:
            view(SearchProgress(doing="getting both models ready"))
            await engine.prepare()
            bench = Bench(
                engine.mentor,
                engine.intern,
                engine.settings,
                recorder=ResponseCache(self._out / CALLS),
                sandbox=self._sandbox,
                concurrency=self._concurrency,
                max_seconds=self._max_minutes and self._max_minutes * 60,
                report=view,
            )
            name, command = str(self._data["name"]), _command()
            dataset = Path(name).stem if is_path(name) else name
            return await make(bench, self._problems, self._plan, dataset=dataset, command=command, source=self._data)


class BlueprintView(Live):
    """How far a build is, with what it has spent."""

    def __init__(self) -> None:
        super().__init__()
        self._shown, self._doing = 0.0, ""
        self._began: float | None = None  # when the first answer was paid for
        self._before = 0  # answers that were there by then

    def __call__(self, progress: SearchProgress) -> None:
        """Show how far it is; drawn only now and then."""
        if self._began is None and progress.intern_tokens:
            self._began, self._before = time.monotonic(), progress.done
        new, waited = progress.doing != self._doing, time.monotonic() - self._shown
        if not new and waited < (DRAW_SECONDS if self._err.is_terminal else LINE_SECONDS):
            return
        self._shown, self._doing = time.monotonic(), progress.doing
        if self._err.is_terminal:
            self._bar.update(
                self._task,
                description=progress.doing,
                total=progress.total or None,
                completed=progress.done,
                note=self._figures(progress),
            )
        else:
            answers = f"{progress.done}/{progress.total} answers, " if progress.total else ""
            self.say(f"{progress.doing}: {answers}{self._figures(progress)}" if answers else progress.doing)

    def _figures(self, progress: SearchProgress) -> str:
        parts = [f"mentor {progress.mentor_tokens:,} tokens", f"intern {progress.intern_tokens:,} tokens"]
        if progress.usd is not None:
            parts.append(f"US$ {progress.usd:.4f}")
        done, missing = progress.done - self._before, progress.total - progress.done
        if self._began is not None and done > 0 and missing > 0:
            parts.append(f"at most {clock((time.monotonic() - self._began) / done * missing)} left")
        return ", ".join(parts)


def _again() -> str:
    """Return the words that say how to go on."""
    shown = "" if "***@" in _command() else f": {_command()}"
    return f"the same command{shown}"


def _command() -> str:
    """Return this command, without the user and password that an endpoint's address may have."""
    return "tandem " + shlex.join(re.sub(r"://[^/@]*@", "://***@", word) for word in sys.argv[1:])
