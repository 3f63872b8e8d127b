"""Counting how many of a question's examples each of several answers passes, by running them in the sandbox.

The examples run in the tester's process, one after the other in one namespace, and call the answer's program over the
pipe, as a grader's tests do. So what the program itself prints is not seen, and an object of a class of its own is
equal to nothing that an example can show. What doctest would accept passes, and so does a value that is equal to the
one shown, however it is spelled (`"a"` for `'a'`).
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tandem.errors import TandemError
from tandem.grading.examples import DoctestExample, examples_of
from tandem.grading.extract import extract_answer
from tandem.grading.programs import extract_program
from tandem.grading.sandbox import Sandbox, Submission
from tandem.thinking import after_thinking
from tandem.types import Problem

SECONDS = 5.0  # on the clock for all examples of one answer
_FOR_EXAMPLES = 0.8  # of that time; the rest is to say how many had passed when it was up
_DEFINED = re.compile(r"^(?:async )?def (\w+)\(", re.MULTILINE)
_COUNT = re.compile(r"a test fails \(line \d+\): (\d+)")


@dataclass(frozen=True, slots=True)
class Trial:
    """The number of `total` examples that each answer passes; `total` 0: none was run, and `why` says why."""

    passed: tuple[int, ...] = ()
    total: int = 0
    why: str = ""


async def try_examples(problem: Problem, texts: Sequence[str], sandbox: Sandbox | None) -> Trial:
    """Run the question's examples against the program in each text, side by side as far as the sandbox has room.

    A program that hangs, ends or breaks has passed what it passed before; a text without a program passes none. Where
    the sandbox does not start, none is counted. The problem's tests and its reference are not looked at.
    """
    examples = examples_of(problem.question)
    if not examples:
        return Trial(why="the prompt shows no example")
    if sandbox is None:
        return Trial(why="no sandbox to run code in")
    prelude, entry_point = _frame(problem.question, examples)
    programs = [extract_program(after_thinking(text), [entry_point]) for text in texts]
    seconds = min(SECONDS, sandbox.seconds)
    tests = _tests(examples, seconds * _FOR_EXAMPLES)

    async def count(program: str) -> int | TandemError:
        try:
            verdict = await sandbox.run(Submission(program, tests, entry_point, prelude), seconds=seconds)
        except TandemError as error:
            return error
        counted = _COUNT.fullmatch(verdict.reason)  # of a program that does not load there is no count
        return int(counted[1]) if counted else 0

    async with asyncio.TaskGroup() as group:
        running = {one: group.create_task(count(one)) for one in dict.fromkeys(programs) if one is not None}
    counts = dict[str | None, int]({None: 0})
    for one, task in running.items():
        found = task.result()
        if isinstance(found, TandemError):
            return Trial(why=f"not run: {found}")
        counts[one] = found
    return Trial(tuple(counts[one] for one in programs), sum(one.tells for one in examples))


def _frame(question: str, examples: Sequence[DoctestExample]) -> tuple[str, str]:
    """Return what the question's code gives a program (imports, helpers, an open definition), and what is called.

    Only a function that the examples call makes the code of use: beside a class that is to be written they would meet
    the question's empty one.
    """
    called = [
        node.func.id
        for example in examples
        for node in ast.walk(ast.parse(example.source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    shown = extract_answer("code", question) or ""
    if (defined := _DEFINED.findall(shown)) and defined[-1] in called:
        return shown, str(defined[-1])
    own = [name for name in called if not hasattr(builtins, name)]
    return "", next(iter(own or called), "")


def _tests(examples: Sequence[DoctestExample], seconds: float) -> str:
    """Return the tests that run the examples and then fail, always, with the number of those that passed."""
    nodes = [node for one in examples for node in ast.walk(ast.parse(one.source))]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {f"{node.func.id}()" for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    named = "".join(f"    {name}\n" for name in sorted(used))  # the tester reads there what stands for the program's
    rows = [(one.source, one.wanted, one.raises) for one in examples]
    return f"if False:\n    pass\n{named}{_APART}examples, seconds = {rows!r}, {seconds!r}\n{_RUN}"


# The examples get the names so far, which are the program's; it may call a function as something that is used below.
_APART = """
import builtins
space = {**builtins.globals()}
builtins.globals().update(builtins.vars(builtins))
"""
_RUN = """
import ast, contextlib, io, signal, sys

class Late(BaseException):
    pass

def late(number, frame):
    raise Late

def show(value):
    if value is not None:
        values.append(value)
        print(repr(value))

def passes(source, wanted, raises):
    values.clear()
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "<example>", "single"), space)
    except Exception as error:
        raised = f"{type(error).__name__}: {error}".removesuffix(": ")
        return bool(raises) and raised == raises
    if raises or not wanted:
        return False
    if printed.getvalue().rstrip() == wanted.replace("<BLANKLINE>", "").rstrip():
        return True
    try:
        return len(values) == 1 and bool(values[0] == ast.literal_eval(wanted.strip()))
    except Exception:
        return False

values, passed = [], 0
sys.displayhook = show
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, seconds)
try:
    for example in examples:
        passed += passes(*example)
except BaseException:  # the time is up, or the program is gone
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
raise AssertionError(passed)
"""
