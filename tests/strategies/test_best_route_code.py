"""best-route on code: the samples meet the examples of the prompt, in a real sandbox. Without bubblewrap these fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from test_best_route import predictor

from tandem.engine import Tandem
from tandem.grading import Sandbox, open_sandbox
from tandem.ledger import Ledger
from tandem.models.base import Request
from tandem.models.fake import FakeModel
from tandem.runs.runner import run
from tandem.runs.store import RunStore
from tandem.strategies import best_route
from tandem.types import CodeTests, Problem, Solution

pytestmark = pytest.mark.slow

QUESTION = "Write add(a, b) in Python.\n\n>>> add(1, 2)\n3\n>>> add(2, 2)\n4\n"
# The tests contradict the examples: whoever looks at them takes another sample.
PROBLEM = Problem.from_text(QUESTION, task="code", id="add").model_copy(
    update={"tests": CodeTests(code="assert add(2, 2) == 5")}
)
CODES = ["return 4", "return 5", "return a + b", "return sum([a, b])", "while True: pass"]
RIGHT = (2, 3)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return open_sandbox(seconds=1.5)


def answer(request: Request) -> str:
    return f"```python\ndef add(a, b):\n    {CODES[(request.sampling.seed or 0) % 1000]}\n```"


def engine(folder: Path, likeliest: int, second: int = 0) -> Tandem:
    """Return an engine that draws all of CODES; the fakes' confidence makes one the likeliest, then another."""
    big, small = FakeModel(name="big"), FakeModel(name="small", parameters=1e8)
    small.answer = answer
    rule = small._rule

    def surer(request: Request) -> Any:
        number = (request.sampling.seed or 0) % 1000
        sure = 0.99 if number == likeliest else 0.9 if number == second else 0.5
        return rule(request).model_copy(update={"confidence": sure})

    small._rule = surer  # type: ignore[method-assign]
    return Tandem(big, small, strategy=f"best-route:{predictor(folder, 0.1, 0.1, 0.1, 0.1, 0.9)}")


async def solved(tandem: Tandem, sandbox: Sandbox | None, problem: Problem = PROBLEM) -> tuple[str, str]:
    """Return the code that was chosen, and why."""
    solution = await tandem.asolve(problem, sandbox=sandbox)
    assert sorted(e.purpose for e in solution.ledger) == ["answer", *["probe"] * 4]
    return solution.text, solution.trace[-1].reason


@pytest.mark.parametrize("second", RIGHT)
async def test_what_passes_the_examples_wins_over_what_is_likelier(
    tmp_path: Path, sandbox: Sandbox, second: int
) -> None:
    text, reason = await solved(engine(tmp_path, likeliest=1, second=second), sandbox)
    assert CODES[second] in text
    assert reason == "passes 2 of 2 examples of the prompt, as 1 other: the likeliest"


async def test_without_a_sandbox_or_an_example_the_likeliest_is_taken(tmp_path: Path, sandbox: Sandbox) -> None:
    tandem = engine(tmp_path, likeliest=1)
    text, reason = await solved(tandem, None)
    assert CODES[1] in text and reason == "the likeliest of 5 (no sandbox to run code in)"
    asserts = Problem.from_text(
        "Write add.\n\nYour code should pass these tests:\n\nassert add(1, 2) == 3", task="code"
    )
    text, reason = await solved(tandem, sandbox, asserts)
    assert CODES[1] in text and reason == "the likeliest of 5 (the prompt shows no example)"


async def test_a_run_lends_its_sandbox_and_takes_it_back(tmp_path: Path, sandbox: Sandbox) -> None:
    for name, lent, taken in (("with", sandbox, 2), ("without", None, 1)):
        tandem = engine(tmp_path, likeliest=1, second=2)
        manifest = {"run": {"strategy": "best-route", "mentor": {"name": "a"}, "intern": {"name": "b"}}}
        with RunStore.create(tmp_path / name, manifest) as store:
            await run(tandem, [PROBLEM], store, sandbox=lent)
            (record,) = store.records()
        assert CODES[taken] in record["text"] and (await solved(tandem, None))[1].endswith(
            "(no sandbox to run code in)"
        )
        assert record["correct"] is (False if lent else None)  # by the tests, which nobody asked before


async def test_left_while_the_examples_run_all_samples_are_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = asyncio.Event()

    async def endless(*_: Any) -> None:
        running.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(best_route, "try_examples", endless)
    tandem, ledger = engine(tmp_path, likeliest=1), Ledger()

    async def read() -> None:
        async for event in tandem.astream(PROBLEM, ledger=ledger):
            assert not isinstance(event, Solution)

    task = asyncio.create_task(read())
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry.purpose for entry in ledger] == ["probe"] * 5
