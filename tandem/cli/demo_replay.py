"""A record of a finished run shown as if it happened now: insight, decisions and answer, without a model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tandem.cli.data_options import unknown_problem
from tandem.cli.demo_stage import Block, Stage
from tandem.errors import TandemError, UsageError
from tandem.ledger import Purpose, Role
from tandem.reports.page.gather import read_questions
from tandem.runs.store import RunStore
from tandem.thinking import ThinkingSplitter
from tandem.types import AnswerDelta, Decision, Event, InsightDelta, Solution, ThinkingDelta

_PIECE = re.compile(r"\s*\S+|\s+$")


def open_replay(folder: Path, problem_id: str | None, speed: float | None) -> tuple[Stage, AsyncGenerator[Event, None]]:
    """Return the stage and the events of one problem of a run, the first that did not fail where none is named.

    Raises UsageError for no run, an unknown problem, or one that failed.
    """
    store = RunStore.open_for_reading(folder)
    run, done = store.manifest()["run"], store.done()
    ids = store.ids()
    if problem_id is not None and problem_id not in ids:
        raise unknown_problem(problem_id, ids, str(folder))
    name = problem_id or next((one for one in ids if one in done), None)
    if name is None:
        raise UsageError(f"{folder} has no problem that was solved")
    (record,) = store.records([name])
    if record["error"] is not None:
        raise UsageError(f"{name} failed in {folder}: {record['error']}")
    fields = {key: record[key] for key in Solution.model_fields if key in record}
    solution = Solution.model_validate(fields | {"problem_id": name})
    stage = Stage(
        strategy=solution.strategy,
        names={"mentor": run["mentor"]["name"], "intern": run["intern"]["name"]},
        question=_question(folder, name),
        speed=speed,
        note="replayed from a record",
        replayed=True,
    )
    return stage, _events(stage, solution, record)


def _question(folder: Path, name: str) -> str:
    """Return a problem's text: the run has it, or what the run belongs to; records do not."""
    at = folder.resolve()
    with suppress(TandemError):
        return (read_questions(at) or read_questions(at.parent)).get(name, name)
    return name


async def _events(stage: Stage, solution: Solution, record: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
    """Yield the events. A decision comes where the insight had the tokens that it was made under, nearly."""
    insight = _PIECE.findall(solution.insight)
    written = max((decision.insight_tokens for decision in solution.trace), default=0)
    at = 0
    block = _begin(stage, "mentor", "insight") if insight else None
    for decision in solution.trace:
        upto = round(len(insight) * decision.insight_tokens / written) if written else 0
        if block:
            async for event in _written(stage, block, insight[at:upto]):
                yield _insight(event, decision)
        at = max(at, upto)
        yield decision
        await asyncio.sleep(1.0 if stage.speed else 0.0)
    if block:
        async for event in _written(stage, block, insight[at:]):
            yield _insight(event, None)
        block.closed = True
    if solution.answered_by:
        answer = _PIECE.findall(solution.text)
        block = _begin(stage, solution.answered_by, "answer")
        told = ThinkingSplitter()
        async for event in _written(stage, block, answer):
            for thought, text in told.feed(event):
                yield ThinkingDelta(text) if thought else AnswerDelta(text)
        for thought, text in told.close():
            yield ThinkingDelta(text) if thought else AnswerDelta(text)
        block.closed = True
    stage.ledger.entries.extend(solution.ledger.entries)
    stage.verdict, stage.reference = record["correct"], record["reference"]
    yield solution


def _insight(text: str, decision: Decision | None) -> InsightDelta:
    return InsightDelta(text, decision.level if decision else "")


def _begin(stage: Stage, role: Role, purpose: Purpose) -> Block:
    stage.blocks.append(Block(role, purpose))
    return stage.blocks[-1]


async def _written(stage: Stage, block: Block, pieces: list[str]) -> AsyncGenerator[str, None]:
    """Yield words as they are added to a block; a record does not say where its tokens end."""
    for piece in pieces:
        block.text += piece
        block.tokens += 1
        if stage.speed:
            await asyncio.sleep(1 / stage.speed)
        yield piece
