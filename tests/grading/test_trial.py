"""Answers that meet the examples of their prompt, in the sandbox. Without bubblewrap these fail."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tandem.errors import TandemError
from tandem.grading.sandbox import ProgramVerdict, Sandbox, Submission, open_sandbox
from tandem.grading.trial import Trial, try_examples
from tandem.types import CodeTests, Problem

pytestmark = pytest.mark.slow

PROMPT = '''```python
import math
from typing import List

def half(x: int) -> int:
    return x // 2

def top(values: List[int]) -> int:
    """ The largest value, halved.
    >>> top([2, 8])
    4
    >>> top([6])
    3
    >>> top([])
    Traceback (most recent call last):
    ValueError: nothing there
    """
```'''
EMPTY = "    if not values:\n        raise ValueError('nothing there')\n"
RIGHT = f"def top(values: List[int]):\n{EMPTY}    return max(values) // 2"
BODY = f"{EMPTY}    return half(max(values))\n"


class Secretive(Problem):
    """A problem whose reference and tests must not be looked at."""

    def __getattribute__(self, name: str) -> Any:
        assert name not in ("reference", "tests"), f"the trial looked at the {name}"
        return super().__getattribute__(name)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return open_sandbox(seconds=60)


def problem(question: str = PROMPT) -> Problem:
    made = Problem.from_text(question, task="code")
    return Secretive.model_construct(**(dict(made) | {"tests": CodeTests(code="assert top([2, 8]) == 99")}))


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```"


async def passed(sandbox: Sandbox, question: str, *codes: str) -> Trial:
    return await try_examples(problem(question), [fenced(code) for code in codes], sandbox)


async def test_each_answer_passes_what_it_passes(sandbox: Sandbox) -> None:
    texts = [
        fenced(RIGHT),
        fenced(BODY),
        fenced(RIGHT.replace("nothing", "little")),
        fenced("def top(values):\n    return 3"),
        fenced("def top(values):\n    return half(8)"),
        fenced("def other(values):\n    return 3"),
        fenced("print('examples', 3)\nraise AssertionError('a test fails (line 1): 3')"),
        fenced("def top(values):\n    raise AssertionError('a test fails (line 1): 3')"),
        fenced("def top(values) return"),
        "I cannot write that.",
        "",
    ]
    assert await try_examples(problem(), texts, sandbox) == Trial((3, 3, 2, 1, 1, 0, 0, 0, 0, 0, 0), 3)


async def test_what_hangs_or_ends_keeps_what_it_passed_before(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The examples' time is up long before the sandbox's, which a busy machine may need to hear what passed.
    monkeypatch.setattr("tandem.grading.trial.SECONDS", 60.0)
    monkeypatch.setattr("tandem.grading.trial._FOR_EXAMPLES", 0.02)
    begin = "import os, sys, time\ndef top(values):\n    if 8 in values:\n        print('junk')\n        return 4\n"
    codes = [
        begin + "    while True: pass",
        begin + "    time.sleep(60)",
        begin + "    os._exit(0)",
        begin + "    sys.exit()",
        begin + "    top(values)",
    ]
    never = ["while True: pass", "import sys\nsys.exit()"]
    start = time.monotonic()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.05)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert await passed(sandbox, PROMPT, *codes) == Trial((1, 1, 1, 1, 1), 3)
    monkeypatch.undo()
    assert await passed(open_sandbox(seconds=1.5), PROMPT, *never) == Trial((0, 0), 3)
    ticking.cancel()
    assert ticks > 5, f"the loop stood still for {time.monotonic() - start:.1f} s"


@pytest.mark.parametrize(
    ("shown", "code", "number"),
    [
        (">>> f(1)\n'a'", "def f(x): return 'a'", 1),
        ('>>> f(1)\n"a"', "def f(x): return 'a'", 1),
        (">>> f(1)\n[1,2]  # both", "def f(x): return [1, 2]", 1),
        (">>> f(1)\n{3, 1}", "def f(x): return {1, 3}", 1),
        (">>> f(1)\n'a  b'", "def f(x): return 'a b'", 0),
        (">>> f(1)\n3", "def f(x): print(3)", 0),
        (">>> f(1)\n3", "def f(x): return '3'", 0),
        (">>> print(f(1))\n3", "def f(x): return '3'", 1),
        (">>> print(f(1))\na\n<BLANKLINE>\nb", "def f(x): return 'a\\n\\nb'", 1),
        (">>> f(1)\n3", "def f(x): raise KeyError(x)", 0),
        (">>> f(1)\nTraceback (most recent call last):\nKeyError: 1", "def f(x): raise KeyError(x)", 1),
        (">>> f(1)\nTraceback (most recent call last):\nKeyError: 1", "def f(x): return 'KeyError: 1'", 0),
        (">>> f(1)\nTraceback (most recent call last):\nStopIteration", "def f(x): raise StopIteration", 1),
        (">>> f(1) == 2", "def f(x): return 2", 1),
        (">>> f(1) == 2", "def f(x): return 3", 0),
        (">>> x = 4\n>>> f(x)\n5\n>>> for k in (1, 2):\n...     f(k)\n2\n3", "def f(x): return x + 1", 2),
        (">>> math.floor(f(1))\n2", "def f(x): return 2.5", 1),
        (">>> c = Cup()\n>>> c.fill(3)\n>>> c.level\n3", "class Cup:\n    def fill(self, x): self.level = x", 1),
        (">>> sum([1, 2])\n7", "def sum(values): return 7", 1),
        (">>> print([1, 2])\n7", "def print(values): return 7", 1),
        (">>> f(1)\n2", "class f:\n    def __init__(self, x): ...\n    def __eq__(self, other): return True", 0),
    ],
)
async def test_what_passes(sandbox: Sandbox, shown: str, code: str, number: int) -> None:
    assert (await passed(sandbox, f"Write it in Python.\n\n{shown}\n", code)).passed == (number,)


async def test_an_empty_class_in_the_prompt_does_not_stand_for_the_answers(sandbox: Sandbox) -> None:
    prompt = 'class Box:\n    """A value.\n    >>> Box(3).get()\n    3\n    """\n    def get(self): ...\n'
    code = "class Box:\n    def __init__(self, value): self.value = value\n    def get(self): return self.value"
    assert await passed(sandbox, f"```python\n{prompt}```", code) == Trial((1,), 1)


class Broken:
    """A sandbox that does not start, and counts how often it was to."""

    seconds = 1.0

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, submission: Submission, *, seconds: float | None = None) -> ProgramVerdict:
        self.asked += 1
        raise TandemError("no processes left")


async def test_nothing_is_said_where_nothing_can_be_run() -> None:
    broken: Any = Broken()
    assert await try_examples(problem("Write f.\n\nassert f(1) == 2"), [RIGHT], broken) == Trial(
        why="the prompt shows no example"
    )
    assert broken.asked == 0
    assert await try_examples(problem(), [RIGHT], None) == Trial(why="no sandbox to run code in")
    found = await try_examples(problem(), [fenced(RIGHT), fenced(RIGHT), fenced(BODY)], broken)
    assert found == Trial(why="not run: no processes left")
    assert broken.asked == 2  # equal programs run once
