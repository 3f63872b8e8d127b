"""Programs and tests of every form that data sets and users bring, in the sandbox. It fails without bubblewrap."""

from __future__ import annotations

import asyncio

import pytest

from tandem.datasets import load_card, load_dataset
from tandem.grading import grade
from tandem.grading.sandbox import Sandbox, Submission, open_sandbox
from tandem.types import CodeTests, Message, Problem

PROMPT = '''from typing import List

def offset(x: int) -> int:
    """A helper."""
    return x + 1

def shift(values: List[int], by: int) -> List[int]:
    """ Add offset(by) to each value. """
'''
CHECK = (
    "METADATA = {}\ndef check(candidate):\n    assert candidate([1], 1) == [offset(2)]\n    assert shift([], 1) == []\n"
)
BODY = "    step = offset(by)\n    return [value + step for value in values]\n"
WHOLE = "def shift(values, by):\n    return [value + offset(by) for value in values]\n"


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return open_sandbox()


def problem(tests: CodeTests) -> Problem:
    return Problem(id="p", messages=(Message(role="user", content="?"),), task="code", tests=tests)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (BODY, True),
        (f"Here it is:\n```python\n{WHOLE}```\nDone.", True),
        (f"```python\n{BODY}```", True),
        (f"```python\nfrom __future__ import annotations\n{WHOLE}```", True),
        (f"```python\n{PROMPT}{BODY}```", True),
        (f"<think>\n```python\n{WHOLE}```\n</think>\n```python\n{WHOLE.replace('by)', 'by) + 1')}```", False),
        (f"```python\n{WHOLE.replace('shift', 'move')}```", False),
        (f"```python\n{WHOLE.replace('def', 'dfe')}```", False),
        ("I cannot write that.", False),
        ("", False),
    ],
)
async def test_a_definition_or_a_body(sandbox: Sandbox, text: str, right: bool) -> None:
    tests = CodeTests(code=CHECK, entry_point="shift", prelude=PROMPT)
    assert await grade(problem(tests), text, sandbox=sandbox) is right


@pytest.mark.parametrize(
    ("code", "tests", "right"),
    [
        ("def f(x):\r\n    return x * 2", "assert f(2) == 4\r\nassert f('a') == 'aa'", True),
        ("import math\ndef f(x): return math.sqrt(x)", "assert math.isclose(f(2), 1.41421356, rel_tol=1e-6)", True),
        ("class math:\n    isclose = lambda *a, **k: True\ndef f(x): return 1", "assert math.isclose(f(2), 2)", False),
        ("def sum(a, b): return a + b", "assert sum(1, 2) == 3", True),
        ("def sum(a, b): return a - b", "assert sum(1, 2) == 3", False),
        ("def sorted(x): return [1]\ndef f(x): return [9]", "assert sorted(f(0)) == [1]", False),
        ("def f(x): yield from x", "assert list(f([1, 2])) == [1, 2]", True),
        ("def f(x): yield from x", "assert f([1, 2]) == [1, 2]", False),
        ("def f(x): return x.keys()", "assert f({1: 2}) == {1}", True),
        ("def f(x): return range(x)", "assert f(3) == range(3)\nassert f(3) != [0, 1, 2]", True),
        ("from collections import *\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}", True),
        ("def f(x): return float('nan')", "assert f(0) != f(0)", True),
        ("def f(x): return 7 ** x", "assert f(9000) == 7 ** 9000", True),
        (
            "def f(x): return (x, {x}, frozenset([x]), b'\\xff', 1j, None, -0.0, '\\ud800')",
            "assert f(1) == (1, {1}, frozenset({1}), b'\\xff', 1j, None, 0.0, '\\ud800')\nassert f(True)[0] is True",
            True,
        ),
        (
            "from decimal import *\ndef f(x): return Decimal(x) / 3",
            "from decimal import Decimal\nassert f(1) == Decimal(1) / 3",
            True,
        ),
        (
            "import datetime\ndef f(d): return d + datetime.timedelta(days=1)",
            "from datetime import datetime\nassert f(datetime(2024, 2, 28)) == datetime(2024, 2, 29)",
            True,
        ),
        (
            "class Node:\n    def __init__(self, v): self.v, self.next = v, None\ndef total(n):\n"
            "    return n.v + total(n.next) if n else 0",
            "a = Node(1)\na.next = Node(2)\nassert total(a) == 3 and a.next.v == 2",
            True,
        ),
        ("class Solution:\n    def twice(self, x): return 2 * x", "assert Solution().twice(x=4) == 8", True),
        ("def f(g, xs): return [g(x) for x in xs]", "assert f(lambda x: x + 1, [1, 2]) == [2, 3]", True),
        (
            "def f(g):\n    try: g()\n    except ZeroDivisionError: return 'caught'",
            "def g(): return 1 / 0\nassert f(g) == 'caught'",
            True,
        ),
        (
            "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
            "try:\n    f(-1)\nexcept ValueError as e:\n    assert str(e) == 'negative'\nelse:\n    assert False",
            True,
        ),
        (
            "class Mine(KeyError): pass\ndef f(x): raise Mine('k')",
            "import unittest\nclass T(unittest.TestCase):\n"
            "    def test_it(self):\n        with self.assertRaisesRegex(KeyError, '^.k.$'):\n            f(1)",
            True,
        ),
        (
            "def f(x): return x",
            "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 2)",
            False,
        ),
        ("def f(x): return 1", "assert True", False),  # tests that test nothing
        ("def f(x): return 1", "assert f(1) == 1\nassert f(2) ==", False),
        ("def f(x): return x.upper()", "print(f('a'), flush=True)\nassert f('a') == 'A'", True),
        (
            "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: 'int'\ndef f(x): return P(x).x",
            "assert f(3) == 3",
            True,
        ),
        ("if __name__ == '__main__':\n    input()\ndef f(x): return x", "assert f(1) == 1", True),
        ("def f(x):\n    import numpy\n    return x", "assert f(1) == 1", False),  # only the standard library is there
    ],
)
async def test_forms_of_programs_and_tests(sandbox: Sandbox, code: str, tests: str, right: bool) -> None:
    verdict = await sandbox.run(Submission(code, tests))
    assert verdict.passed is right, verdict.reason


async def test_arguments_are_copies_and_calls_share_state(sandbox: Sandbox) -> None:
    code = "seen = []\ndef f(x):\n    x.clear()\n    seen.append(1)\n    return len(seen)"
    tests = "x = [1]\nassert f(x) == 1\nassert x == [1]\nassert f(x) == 2"
    assert (await sandbox.run(Submission(code, tests))).passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n"), [("humaneval", 164), pytest.param("mbpp", 974, marks=pytest.mark.public_data("mbpp"))]
)
async def test_reference_solutions_are_right_and_broken_ones_wrong(sandbox: Sandbox, name: str, n: int) -> None:
    chosen = [
        p for split in (load_card(name).splits if name == "mbpp" else ["test"]) for p in load_dataset(name, split=split)
    ]
    assert len(chosen) == n
    right = await graded(sandbox, chosen, broken=False)
    assert {p.id for p, passed in zip(chosen, right, strict=True) if not passed} == set()
    sample = chosen[:: 1 + n // 200]
    right = await graded(sandbox, sample, broken=True)
    assert {p.id for p, passed in zip(sample, right, strict=True) if passed} == set()


async def graded(sandbox: Sandbox, problems: list[Problem], *, broken: bool) -> list[bool | None]:
    """Grade the reference solutions, or the same with another value returned everywhere."""
    texts = []
    for one in problems:
        assert one.reference is not None and one.tests is not None
        whole = one.tests.prelude + "\n" + one.reference if one.tests.entry_point else one.reference
        texts.append(f"```python\n{whole}\n{BREAK if broken else ''}\n```")
    return await asyncio.gather(*(grade(one, text, sandbox=sandbox) for one, text in zip(problems, texts, strict=True)))


BREAK = """
def _broken(function):
    def wrong(*arguments, **keywords):
        value = function(*arguments, **keywords)
        if isinstance(value, bool): return not value
        if isinstance(value, (int, float, complex)): return value + 1
        if isinstance(value, str): return value + "x"
        if isinstance(value, (list, tuple)): return value + type(value)([None])
        return "wrong"
    return wrong
for _name, _value in list(globals().items()):
    if type(_value) is type(_broken) and not _name.startswith("_"):
        globals()[_name] = _broken(_value)
"""
