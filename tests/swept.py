"""Runs on fake models for the tests of sweeps: answers, decisions and costs that follow from the problem alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tandem.engine import Tandem
from tandem.ladder import Effort
from tandem.models.base import Request
from tandem.models.fake import FakeModel, Script
from tandem.runs.manifest import describe_run
from tandem.runs.runner import run
from tandem.runs.store import RunStore
from tandem.runs.summary import summarise
from tandem.spec import Prices
from tandem.sufficiency.policy import Policy, PolicyCard
from tandem.types import Problem

LADDER = "none,low=4,high=12,answer"
THRESHOLDS = {"none": 0.7, "low": 0.8, "high": 0.75}
INTERN, MENTOR, LEVELS = "intern-only", "mentor-only", ("fixed:low=4", "fixed:high=12")


def problems(n: int) -> list[Problem]:
    def text(i: int) -> str:  # of many lengths, so that a router sees differences
        return f"What is {i}+{i}? " + f"Of {i} people, some are tall, 12% not. " * (i % 7) + "Say $x^2$. " * (i % 3)

    return [Problem.from_text(text(i), id=f"p{i}", reference=str(2 * i), task="math") for i in range(n)]


def draw(*parts: object) -> float:
    """Return a number in 0..1 that is always the same for the same parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32


def asked(request: Request) -> tuple[int, str]:
    """Return the problem's number and everything around it."""
    whole = "\n".join(m.content for m in request.messages)
    return int(whole.partition("What is ")[2].partition("+")[0]), whole


def write(right: float, request: Request) -> str:
    i, whole = asked(request)
    if request.purpose == "insight":
        return "Goal: add. " + " ".join(f"note{k}" for k in range(40))
    level = whole.count("note")
    length = 5 + int(20 * draw("length", i, level, right))
    found = 2 * i if draw("right", i, level) < right + 0.02 * level else -1
    return " ".join(f"word{k}" for k in range(length)) + f" \\boxed{{{found}}}"


def pair(*, priced: bool = False) -> tuple[FakeModel, FakeModel]:
    """Return the models; a mentor that is `priced` is billed by token, the intern runs on own hardware all the same."""
    mentor, intern = FakeModel(Script(), name="big", parameters=8e9), FakeModel(Script(), name="small")
    if priced:
        mentor.spec = mentor.spec.model_copy(update={"prices": Prices(input=2.5, output=10.0), "local": False})
    mentor.answer, intern.answer = lambda r: write(0.8, r), lambda r: write(0.4, r)
    return mentor, intern


class Drawn:
    """A judge whose sufficiencies are drawn by what it is shown."""

    id = "drawn"

    def sufficiency(self, level: Effort, signals: Mapping[str, float], insight_tokens: int) -> float:
        return round(draw(level.name, sorted(signals.items())), 3)


def made(
    folder: Path,
    strategy: str,
    *,
    n: int = 30,
    thresholds: Mapping[str, float] = THRESHOLDS,
    priced: bool = False,
    **options: Any,
) -> Path:
    """Run a strategy over the problems as `tandem run` does; `thresholds` are those of `tandem`'s policy."""

    async def work() -> None:
        given = {"pace": "thrifty", "draft_tokens": 3, "effort": LADDER} | options
        async with Tandem(*pair(priced=priced), strategy=strategy, **given) as engine:
            await engine.prepare()
            if strategy == "tandem":
                policy = Policy(Drawn(), PolicyCard(thresholds=dict(thresholds)))
                engine._policy = lambda *_: policy
            manifest = describe_run(engine.plan(), {"name": "sums", "split": "test"}, problems(n), {})
            await run(engine, problems(n), RunStore.create(folder, manifest))

    asyncio.run(work())
    return folder


def edited(
    folder: Path,
    into: Path,
    record: Callable[[dict[str, Any]], object] = lambda record: None,
    manifest: Callable[[dict[str, Any]], object] = lambda manifest: None,
) -> Path:
    """Write a run anew with changes to its records and its manifest."""
    old = RunStore.open_for_reading(folder)
    described, records = old.manifest(), list(old.records())
    manifest(described)
    store = RunStore.create(into, described)
    for one in records:
        record(one)
        one.pop("sum", None)
        store.append(one)
    store.finish(summarise(store.records(), None))
    return into


def comparison(folder: Path, runs: Mapping[str, Path]) -> Path:
    """Write what a comparison's folder has, over runs that lie elsewhere."""
    folder.mkdir()
    rows = [{"name": name, "folder": str(path), "status": "finished", "reason": None} for name, path in runs.items()]
    rows.append({"name": "delegate", "folder": "delegate", "status": "skipped", "reason": "no tools"})
    found = {"format": 1, "strategies": rows, "pair": {"mentor": "big", "intern": "small"}, "dataset": {"name": "sums"}}
    (folder / "compare.json").write_text(json.dumps(found))
    return folder
