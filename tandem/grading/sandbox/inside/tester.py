"""The process that runs a problem's tests and reports the verdict. It never runs the candidate's code.

Names that the tests use but do not define stand for the candidate's. What a test does with the values that they return
happens here, on built-in types.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import os
import sys
import traceback
import types
from typing import Any

from . import wire
from .confine import confine
from .peer import Name, Peer
from .program import standing


def main() -> None:
    """Read the job from standard input, drop privileges, run the tests, write the verdict as one line of JSON."""
    job = json.load(sys.stdin)
    sys.path.pop(0)  # our own folder
    verdicts = os.dup(1)
    os.dup2(2, 1)  # what a test prints is no verdict
    confine(job["limits"])
    peer = Peer(*job["pipes"])
    if wire.receive(peer.read) != ["ready"]:
        raise wire.LostError
    peer.send(["go"])
    os.write(verdicts, b"ready\n")
    reason = _run(job, peer)
    os.write(verdicts, json.dumps({"passed": not reason, "reason": reason}).encode() + b"\n")
    os._exit(0)  # leftovers of the tests must not delay the exit


def _run(job: dict[str, Any], peer: Peer) -> str:
    """Return why the candidate fails; empty if it passes."""
    try:
        greeting = wire.receive(peer.read)
        if greeting != ["loaded"]:
            return _cut(f"the program does not load: {greeting[1] if greeting[:1] == ['failed'] else 'no answer'}")
        run_tests(standing(job["prelude"]), job["code"].replace("\r\n", "\n"), job["entry_point"], peer)
    except wire.LostError as error:
        return _cut(f"the program ended or broke off: {error}")
    except AssertionError as error:
        return _cut(f"a test fails{_line(error)}: {error}".removesuffix(": "))
    except BaseException as error:  # SystemExit is no pass either
        return _cut(f"a test ends with {type(error).__name__}{_line(error)}: {error}")
    if peer.lost:  # a bare except in a test may have swallowed it
        return "the program ended or broke off"
    return "" if peer.calls else "the tests never call the program"


def run_tests(prelude: str, code: str, entry_point: str, peer: Peer) -> None:
    """Run the tests against the candidate behind `peer`; whatever they raise goes through."""
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    names = module.__dict__
    nodes = list(ast.walk(ast.parse(prelude + "\n" + code)))
    for name in unknown_names(nodes, entry_point):
        names[name] = importlib.import_module(name) if _is_module(nodes, name) else Name(peer, name)
    exec(compile(prelude, "<prelude>", "exec"), names)
    if entry_point:
        names[entry_point] = names["candidate"] = Name(peer, entry_point)
    exec(compile(code, "<tests>", "exec"), names)
    check = names.get("check")
    if entry_point and isinstance(check, types.FunctionType) and not peer.calls:  # HumanEval defines it, others call it
        check(names["candidate"])
    _run_cases(module)


def _run_cases(module: types.ModuleType) -> None:
    """Run the unittest cases that the tests define, if they define any."""
    if "unittest" not in sys.modules:
        return
    import unittest

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    if broken := result.errors + result.failures:
        raise AssertionError(broken[0][1].strip().splitlines()[-1])


def unknown_names(nodes: list[ast.AST], entry_point: str) -> list[str]:
    """Return the names that the code uses and that are not built in.

    Where there are none, a function may share its name with a built-in one: then it is the first that is called.
    """
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    if unknown := sorted(name for name in used if not hasattr(builtins, name)):
        return unknown
    return [] if entry_point else _called(nodes)[:1]


def _called(nodes: list[ast.AST]) -> list[str]:
    return [node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]


def _is_module(nodes: list[ast.AST], name: str) -> bool:
    """Whether a test says math.isclose without importing math: that must not be the candidate's own."""
    return name in sys.stdlib_module_names and name not in _called(nodes)


def _line(error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<tests>"]
    return f" (line {lines[-1]})" if lines else ""


def _cut(reason: str) -> str:
    return " ".join(reason.split())[:500]
