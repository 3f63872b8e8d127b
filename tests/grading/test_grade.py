from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.grading import close_graders, grade
from tandem.types import Problem, TaskKind

CASES = json.loads((Path(__file__).parent / "math_cases.json").read_text("utf-8"))
ALGEBRA = r"\frac{1}{\sqrt{3}}"  # equal to the reference below, but only algebra sees it


@pytest.fixture(scope="module", autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    close_graders()


def problem(reference: str | None, task: TaskKind = "math") -> Problem:
    return Problem.from_text("What is it?", task=task, reference=reference)


ROOT = problem(r"\frac{\sqrt{3}}{3}")


def children(pid: int) -> list[int]:
    """Return the ids of a process's live child processes."""
    found = [int(child) for part in Path(f"/proc/{pid}/task").glob("*/children") for child in part.read_text().split()]
    return [child for child in found if alive(child)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("case", CASES, ids=[f"{c['about']}: {c['reference']} ? {c['answer']}" for c in CASES])
async def test_math_cases(case: dict[str, object]) -> None:
    assert await grade(problem(str(case["reference"])), f"So we get \\boxed{{{case['answer']}}}.") is case["equal"]


@pytest.mark.parametrize(
    ("task", "reference", "text", "verdict"),
    [
        ("math", None, "42", None),
        ("code", "def f(): ...", "```python\ndef f(): ...\n```", None),
        ("math", "42", "I cannot tell.", False),
        ("math", "42", "<think>\\boxed{42}", False),
        ("math", "42", "42", True),
        ("choice", "C", "The answer is (C).", True),
        ("choice", "(C)", "\\boxed{B}", False),
        ("choice", "C", "no idea", False),
        ("general", "New York", "new  york.", True),
        ("general", "New York", "York", False),
    ],
)
async def test_verdicts(task: TaskKind, reference: str | None, text: str, verdict: bool | None) -> None:
    assert await grade(problem(reference, task), text) is verdict


async def test_what_is_too_long_for_algebra_is_compared_as_text() -> None:
    long = "+".join(["x"] * 1500)
    assert await grade(problem(long), f"\\boxed{{{long}}}") is True
    assert await grade(problem(long), "\\boxed{1500x}") is False


HOSTILE = ["9^{9^{9^{9}}}", r"\frac{1}{1+" * 150 + "1" + "}" * 150, "(10^{8})!"]  # one more than there are workers


@pytest.mark.slow
async def test_hostile_answers_cost_their_deadline_and_stall_nobody() -> None:
    bad = [grade(ROOT, f"\\boxed{{{answer}}}", deadline=0.5) for answer in HOSTILE]
    good = [grade(ROOT, ALGEBRA) for _ in range(8)]
    async with asyncio.timeout(120):
        verdicts = await asyncio.gather(*bad, *good)
    assert verdicts == [False] * len(bad) + [True] * len(good)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_killed_worker_is_replaced() -> None:
    assert await grade(ROOT, ALGEBRA) is True
    workers = children(os.getpid())
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert await grade(ROOT, ALGEBRA) is True


async def test_closing_is_not_the_end_and_workers_are_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await grade(ROOT, ALGEBRA) is True
    close_graders()
    close_graders()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert await grade(ROOT, ALGEBRA) is True
    for pid in children(os.getpid()):
        assert b"sk-very-secret" not in environment(pid)


def test_grading_from_threads_with_their_own_loops() -> None:
    verdicts: list[bool | None] = []
    threads = [threading.Thread(target=lambda: verdicts.append(asyncio.run(grade(ROOT, ALGEBRA)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert verdicts == [True] * 4


SCRIPT = r"""
import asyncio, sys
from tandem.grading import grade
from tandem.types import Problem
problem = Problem.from_text("?", task="math", reference=r"\frac{\sqrt{3}}{3}")
async def main():
    assert await grade(problem, r"\frac{1}{\sqrt{3}}")
    print("graded", flush=True)
    if sys.argv[1] == "wait":
        await asyncio.sleep(60)
    if sys.argv[1] == "hang":
        await grade(problem, "\\boxed{9^{9^{9^{9}}}}", deadline=0.5)
asyncio.run(main())
"""


def test_works_and_ends_in_a_script_without_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "math.py"  # shadows the standard library for whoever imports from the script's folder
    script.write_text(SCRIPT)
    command = [sys.executable, "-P", str(script), "end"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("graded\n", "", 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("state", ["wait", "hang"])
def test_workers_die_with_their_parent(state: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT, state], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"graded\n"
        workers = children(parent.pid)
        if state == "hang":
            time.sleep(0.3)
        parent.kill()
    assert workers
    patience = time.monotonic() + 30
    while any(alive(pid) for pid in workers) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)
