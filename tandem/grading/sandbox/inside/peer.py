"""The candidate's process seen from the tests: proxies for its names and objects.

Calling a stand-in sends the arguments over and returns the plain data that comes back. What the candidate returns that
is no plain data stays there; its stand-in can be handed back and asked for attributes, is equal to nothing but itself,
and is neither true nor false. Arguments are copies: a test does not see what the candidate changes in them.
"""

from __future__ import annotations

import builtins
from typing import Any, NoReturn

from . import wire


class Peer:
    """The candidate's process, seen from here."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self._write = read, write
        self.calls = 0
        self.lost = False
        self._functions: list[Any] = []

    def send(self, message: list[Any]) -> None:
        """Send what has no reply. Raises LostError if the candidate is gone."""
        wire.send(self._write, message)

    def ask(self, verb: str, target: int | str, *rest: Any) -> Any:
        """Return the candidate's reply. Raises the built-in exception that it raised, or LostError."""
        if self.lost:
            raise wire.LostError("the program is gone")
        try:
            self.send([verb, target, *rest])
            return self._reply()
        except wire.LostError:
            self.lost = True
            raise

    def _reply(self) -> Any:
        while True:
            message = wire.receive(self.read)
            match message:
                case ["value", data]:
                    return wire.decode(data, self._restore)
                case ["raise", str(kind), list(arguments)]:
                    _raise(kind, [wire.decode(value, self._restore) for value in arguments])
                case ["callback", int(number), list(arguments)] if 0 <= number < len(self._functions):
                    self.send(self._call_back(number, arguments))
                case _:
                    raise wire.LostError(str(message)[:200])

    def _call_back(self, number: int, arguments: list[Any]) -> list[Any]:
        values = [wire.decode(value, self._restore) for value in arguments]
        try:
            return ["value", wire.encode(self._functions[number](*values), self.export)]
        except Exception as error:
            kind = type(error).__name__
            return ["raise", kind if hasattr(builtins, kind) else "Exception", [str(error)[:1000]]]

    def export(self, value: Any) -> list[Any]:
        """Return how an argument that is no plain data is named over there; of ours only functions, to be called."""
        if isinstance(value, Remote):
            target = object.__getattribute__(value, "_target")
            return ["name" if isinstance(target, str) else "object", target]
        if callable(value):
            self._functions.append(value)
            return ["function", len(self._functions) - 1]
        raise TypeError(f"a test passes a {type(value).__name__}, which cannot go to the program")

    def _restore(self, tag: str, content: Any) -> Any:
        if tag != "object" or not isinstance(content, int):
            raise ValueError(f"tag {tag}")
        return Remote(self, content)


class Remote:
    """An object of the candidate's, by its number there."""

    def __init__(self, peer: Peer, target: int | str) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_target", target)

    def _ask(self, verb: str, *rest: Any) -> Any:
        peer: Peer = object.__getattribute__(self, "_peer")
        return peer.ask(verb, object.__getattribute__(self, "_target"), *rest)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        peer: Peer = object.__getattribute__(self, "_peer")
        peer.calls += 1
        named = {name: wire.encode(value, peer.export) for name, value in keywords.items()}
        return self._ask("call", [wire.encode(value, peer.export) for value in arguments], named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        peer: Peer = object.__getattribute__(self, "_peer")
        self._ask("set", name, wire.encode(value, peer.export))

    def __bool__(self) -> bool:
        raise TypeError("the program returns an object where a test wants a truth value")


class Name(Remote):
    """A function or class of the candidate's, by its name there."""


def _raise(kind: str, arguments: list[Any]) -> NoReturn:
    known = getattr(builtins, kind, None)
    if not (isinstance(known, type) and issubclass(known, Exception)):
        raise wire.LostError(f"no exception: {kind}"[:200])
    if issubclass(known, (StopIteration, StopAsyncIteration)):
        # map, zip and all would take it for an end (PEP 479): it keeps its name, which an example may show.
        known = type(kind, (RuntimeError,), {})
    try:
        error = known(*arguments)
    except TypeError:  # UnicodeDecodeError and its kin want what a subclass may not have kept
        error = ValueError(*arguments)
    raise error
