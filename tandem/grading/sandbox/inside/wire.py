"""How the tester and the candidate talk: frames of JSON on a pipe, which hold nothing but plain data.

A frame is four bytes of length and that many bytes of JSON. Numbers, strings, truth values and None stand for
themselves; everything else is a list [tag, content]. What is no plain data goes through `export` and comes back
through `restore`. A subclass of a plain type is sent as that type, so what it says of itself is not asked.
"""

from __future__ import annotations

import datetime
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

MAX_FRAME = 16 << 20  # bytes
MAX_DEPTH = 150  # of data inside data
MAX_ITEMS = 1_000_000  # taken from an iterator, which may have no end
_SMALL = 1 << 53

Export = Callable[[Any], list[Any]]
Restore = Callable[[str, Any], Any]


class LostError(BaseException):
    """The other side is gone or sent an invalid answer. No test can catch this as an expected exception."""


def send(fd: int, message: Any) -> None:
    """Write one frame. Raises ValueError if it is too large, LostError if the reader is gone."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    if len(payload) > MAX_FRAME:
        raise ValueError("too much data")
    view = memoryview(len(payload).to_bytes(4, "big") + payload)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise LostError(f"the reader is gone: {error}") from None


def receive(fd: int) -> Any:
    """Read one frame. Raises LostError at the end of the pipe and for anything that is no frame."""
    size = int.from_bytes(_exactly(fd, 4), "big")
    if size > MAX_FRAME:
        raise LostError("too much data")
    try:
        return json.loads(_exactly(fd, size))
    except (ValueError, RecursionError, MemoryError):
        raise LostError("no frame of data") from None


def _exactly(fd: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = os.read(fd, min(size - len(data), 1 << 20))
        except OSError as error:
            raise LostError(str(error)) from None
        if not chunk:
            raise LostError("the other side is gone")
        data += chunk
    return bytes(data)


def encode(value: Any, export: Export, depth: int = 0) -> Any:
    """Return `value` as JSON can hold it. Raises ValueError for what is nested too deeply or has no end."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and -_SMALL < value < _SMALL:
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if depth > MAX_DEPTH:
        raise ValueError("data nested too deeply")
    kind = next((kind for kind in _KINDS if isinstance(value, kind.type)), None)
    if kind is None or (kind.type is type and _PLAIN_TYPES.get(value.__name__) is not value):
        return export(value)
    return [kind.tag, kind.write(value, lambda item: encode(item, export, depth + 1))]


def decode(data: Any, restore: Restore) -> Any:
    """Decode the output of `encode`. Raises LostError for invalid data."""
    try:
        return _decode(data, restore, 0)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, MemoryError) as error:
        raise LostError(f"no data: {error}"[:200]) from None


def _decode(data: Any, restore: Restore, depth: int) -> Any:
    if isinstance(data, dict) or depth > MAX_DEPTH + 1:
        raise ValueError("not as encode writes it")
    if not isinstance(data, list):
        return data
    tag, content = data
    if tag not in _BY_TAG:
        return restore(tag, content)
    return _BY_TAG[tag].read(content, lambda item: _decode(item, restore, depth + 1))


_Inner = Callable[[Any], Any]  # encodes or decodes what lies inside


class _Kind(NamedTuple):
    tag: str
    type: type
    write: Callable[[Any, _Inner], Any]
    read: Callable[[Any, _Inner], Any]


def _collection(kind: Any) -> _Kind:
    return _Kind(
        kind.__name__,
        kind,
        lambda value, inner: [inner(item) for item in kind.__iter__(value)],
        lambda content, inner: kind([inner(item) for item in content]),
    )


def _text(kind: Any, write: Callable[[Any], str], read: Callable[[str], Any]) -> _Kind:
    return _Kind(kind.__name__, kind, lambda value, inner: write(value), lambda content, inner: read(content))


def _view(kind: type, make: Callable[[list[Any]], Any]) -> _Kind:
    return _Kind(
        kind.__name__,
        kind,
        lambda value, inner: [inner(item) for item in _some(value)],
        lambda content, inner: make([inner(item) for item in content]),
    )


def _pairs(value: dict[Any, Any], inner: _Inner) -> list[Any]:
    return [[inner(key), inner(item)] for key, item in dict.items(value)]


def _some(values: Iterable[Any]) -> Iterator[Any]:
    for count, item in enumerate(values):
        if count >= MAX_ITEMS:
            raise ValueError("an iterator without end")
        yield item


_PLAIN_TYPES = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, object)
}
_KINDS = [
    _collection(list),
    _collection(tuple),
    _Kind("dict", dict, _pairs, lambda content, inner: {inner(key): inner(item) for key, item in content}),
    _collection(set),
    _collection(frozenset),
    _collection(deque),
    _text(int, lambda value: format(int.__int__(value), "x"), lambda text: int(text, 16)),
    _text(bytes, lambda value: value.hex(), bytes.fromhex),
    _text(bytearray, lambda value: value.hex(), bytearray.fromhex),
    _text(Decimal, str, Decimal),
    _text(Fraction, str, Fraction),
    _text(datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),  # a date too: it goes first
    _text(datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    _text(datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    _Kind(
        "timedelta",
        datetime.timedelta,
        lambda value, inner: [value.days, value.seconds, value.microseconds],
        lambda content, inner: datetime.timedelta(*content),
    ),
    _Kind(
        "complex",
        complex,
        lambda value, inner: [value.real, value.imag],
        lambda content, inner: complex(*content),
    ),
    _Kind(
        "range",
        range,
        lambda value, inner: [inner(value.start), inner(value.stop), inner(value.step)],
        lambda content, inner: range(*map(inner, content)),
    ),
    _Kind("type", type, lambda value, inner: value.__name__, lambda content, inner: _PLAIN_TYPES[content]),
    _view(type({}.keys()), lambda items: dict.fromkeys(items).keys()),
    _view(type({}.values()), lambda items: dict(enumerate(items)).values()),
    _view(type({}.items()), lambda items: dict(items).items()),
    _view(Iterator, iter),
]
_BY_TAG = {kind.tag: kind for kind in _KINDS}
