"""The process that holds a candidate's program and answers the tester's calls, until the pipe ends.

The candidate's code can break anything in this process, but that spoils only its own answers.
"""

from __future__ import annotations

import builtins
import json
import sys
import types
from collections.abc import Callable
from typing import Any

from . import wire
from .confine import confine
from .program import stages


def main() -> None:
    """Read the job from standard input, drop privileges, load the program, serve."""
    job = json.load(sys.stdin)
    sys.path.pop(0)  # our own folder
    read, write = job["pipes"]
    confine(job["limits"])
    wire.send(write, ["ready"])
    try:
        wire.receive(read)  # the tester has given everything up too
    except wire.LostError:
        return  # a trial start without a tester
    host = _Host(read, write)
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    try:
        _load(module, stages(job["prelude"], job["code"], job["entry_point"]))
    except BaseException as error:
        wire.send(write, ["failed", _sentence(error)])
        return
    wire.send(write, ["loaded"])
    host.serve(module)


def _load(module: types.ModuleType, sources: list[str]) -> None:
    *preludes, code = sources
    for source in preludes:
        try:
            exec(compile(source, "<prelude>", "exec"), module.__dict__)
        except Exception:  # set-up for the tests may use what only the code below defines
            continue
    exec(compile(code, "<candidate>", "exec"), module.__dict__)


class _Host:
    """The candidate's objects, which the tester knows by number."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._objects: list[Any] = []

    def serve(self, module: types.ModuleType) -> None:
        while True:
            message = wire.receive(self._read)
            try:
                reply = ["value", wire.encode(self._do(module, *message), self._export)]
            except Exception as error:
                reply = ["raise", _builtin(type(error)), self._arguments(error)]
            except BaseException as error:  # SystemExit and the like end the program, not a test
                reply = ["failed", _sentence(error)]
            try:
                wire.send(self._write, reply)
            except ValueError as error:
                wire.send(self._write, ["raise", "ValueError", [str(error)]])

    def _do(self, module: types.ModuleType, verb: str, target: Any, *rest: Any) -> Any:
        restored = self._target(module, target)
        if verb == "call":
            arguments, keywords = rest
            named = {name: wire.decode(value, self._restore) for name, value in keywords.items()}
            return restored(*(wire.decode(value, self._restore) for value in arguments), **named)
        if verb == "get":
            return getattr(restored, rest[0])
        setattr(restored, rest[0], wire.decode(rest[1], self._restore))
        return None

    def _target(self, module: types.ModuleType, target: Any) -> Any:
        if isinstance(target, int):
            return self._objects[target]
        if target in module.__dict__:
            return module.__dict__[target]
        if hasattr(builtins, target):
            return getattr(builtins, target)
        raise NameError(f"name '{target}' is not defined")

    def _export(self, value: Any) -> list[Any]:
        self._objects.append(value)
        return ["object", len(self._objects) - 1]

    def _restore(self, tag: str, content: Any) -> Any:
        if tag == "object":
            return self._objects[content]
        if tag == "name":
            return self._target(sys.modules["candidate"], content)
        return self._callback(content)

    def _arguments(self, error: Exception) -> list[Any]:
        try:
            return [wire.encode(value, self._export) for value in error.args]
        except Exception:
            return [_sentence(error)]

    def _callback(self, number: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            wire.send(self._write, ["callback", number, [wire.encode(value, self._export) for value in arguments]])
            kind, *content = wire.receive(self._read)
            if kind == "raise":
                raise getattr(builtins, content[0])(*content[1])
            return wire.decode(content[0], self._restore)

        return call


def _builtin(kind: type[BaseException]) -> str:
    """Return the nearest built-in class of an exception: the one that a test can name."""
    return next(str(base.__name__) for base in kind.__mro__ if getattr(builtins, base.__name__, None) is base)


def _sentence(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:1000]
    except Exception:  # its __str__ is the candidate's
        return "an exception that cannot be printed"
