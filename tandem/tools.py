"""Functions that a model may call, and its calls as text: journal, caches, ledger and strategies only see text.

A call is ``<tool_call>{"name": …, "arguments": {…}}</tool_call>`` in what a model wrote; several stand one after the
other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tandem.thinking import overlap

_TEMPLATE = 256  # tokens that a chat template may add to a prompt with functions
ADVICE = "use --strategy delegate:text"  # where a model takes no tools
OPENS_CALL, CLOSES_CALL = "<tool_call>", "</tool_call>"
_UNCLOSED = CLOSES_CALL.replace("/", "\\/")  # the same within a JSON string, where it ends nothing


class FunctionCall(BaseModel):
    """A call in a conversation's history; `arguments` is JSON as a model wrote it, valid or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    arguments: str


class ToolUse(BaseModel):
    """The functions that a model may call in its answer.

    `functions` are OpenAI's (name, description, parameters, strict). `choice` says whether one may be called (``none``,
    ``auto``) or must be (``required``: any, or the one that is `named`), `parallel` whether several at once.
    `textual`: an endpoint that takes no tools may be given them as text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functions: tuple[dict[str, Any], ...] = Field(min_length=1)
    choice: Literal["none", "auto", "required"] = "auto"
    named: str | None = None
    parallel: bool = True
    textual: bool = Field(default=True, exclude=True)

    @cached_property
    def text(self) -> str:
        """Approximately the text that a model reads for the functions."""
        return "\n".join(json.dumps(function) for function in self.functions)

    @cached_property
    def room(self) -> int:
        """Tokens at most that they add to a prompt, whatever the tokenizer: none is shorter than a byte."""
        return len(self.text.encode()) + _TEMPLATE

    @property
    def openai(self) -> list[dict[str, Any]]:
        """The value of `tools` in OpenAI's API, which chat templates take too."""
        return [{"type": "function", "function": function} for function in self.functions]

    @property
    def names(self) -> list[str]:
        return [function["name"] for function in self.functions]

    @property
    def identity(self) -> Any:
        """What decides a model's output, as JSON: one function that may be called once at a time is just itself."""
        alone = len(self.functions) == 1 and self.choice == "auto" and not self.parallel
        return self.functions[0] if alone else self.model_dump(mode="json")

    def __hash__(self) -> int:
        return hash((self.text, self.choice, self.named, self.parallel))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in a model's text: what stands before it, the function's name, its arguments as the model wrote them."""

    before: str
    name: str
    arguments: str

    def argument(self, function: str, parameter: str) -> str:
        """Return a parameter's text; "" for another function, invalid arguments, or one that is no string."""
        given = json_object(self.arguments)
        value = given.get(parameter) if given is not None and self.name == function else None
        return value if isinstance(value, str) else ""


def write_call(name: str, arguments: str) -> str:
    """Return a call's textual form: arguments that are a JSON object stand in it as one, anything else as a string."""
    given = json.dumps(arguments, ensure_ascii=False) if json_object(arguments) is None else arguments.strip()
    called = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {given}}}'
    return f"{OPENS_CALL}{called.replace(CLOSES_CALL, _UNCLOSED)}{CLOSES_CALL}"


def find_call(text: str) -> ToolCall | None:
    """Return the first call in a text, or None; one that is not well formed has neither name nor arguments."""
    first = at = text.find(OPENS_CALL)
    while at >= 0:
        called = _called(text[at + len(OPENS_CALL) :])
        if called is not None:
            return ToolCall(text[:at], called[0], called[1])
        at = text.find(OPENS_CALL, at + 1)
    return ToolCall(text[:first], "", "") if first >= 0 else None


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a streamed call: the first one of each call has its name, the others more of its arguments."""

    index: int
    name: str
    arguments: str


class CallSplitter:
    """Tells calls from text while an answer arrives, for any chunking: text as str, calls as CallPiece.

    The space before and behind a call is dropped. What is no call between the tags is text, without them. `parallel`:
    calls behind the first one are kept too. Some models leave the tags out: an answer that begins with a call of one of
    the functions `names` is one without.
    """

    def __init__(self, *, parallel: bool = True, names: Collection[str] = ()) -> None:
        self.calls = 0  # that have begun
        self._parallel = parallel
        self._held = ""
        self._names = names
        self._step = self._bare if names else self._text
        self._scan = _ObjectEnd()
        self._fresh = False  # nothing but space came behind a call
        self._gap = ""  # the space before it

    def feed(self, text: str) -> Iterator[str | CallPiece]:
        """Yield what a piece of the answer completes."""
        self._held += text
        yield from self._go(end=False)

    def close(self) -> Iterator[str | CallPiece]:
        """Yield what was held back; a call that was cut has the arguments that came."""
        yield from self._go(end=True)

    def _go(self, *, end: bool) -> Iterator[str | CallPiece]:
        while True:
            step = self._step
            yield from self._kept(step(end))
            if self._step == step:
                return

    def _kept(self, pieces: Iterable[str | CallPiece]) -> Iterator[str | CallPiece]:
        for piece in pieces:
            if isinstance(piece, str) or piece.index == 0 or self._parallel:
                yield piece

    def _bare(self, end: bool) -> Iterator[str | CallPiece]:
        """See whether a call without its tag comes; a text that cannot become one is not held back."""
        if (head := _HEAD.match(self._held)) is not None and _string(head[1]) in self._names:
            self._step = self._head
            return
        begun = re.sub(r"\s+", "", self._held[:_LONGEST_HEAD])
        hopeless = not begun.startswith(_BARE) if len(begun) >= len(_BARE) else not _BARE.startswith(begun)
        if end or hopeless or len(self._held) > _LONGEST_HEAD:
            self._step = self._text
        yield from ()

    def _text(self, end: bool) -> Iterator[str | CallPiece]:
        """Pass text on up to a call, but not the space before it."""
        before, found, behind = self._held.partition(OPENS_CALL)
        if self._fresh and before.lstrip():
            self._fresh, before = False, before.lstrip()
        if found:
            self._held, self._step = behind, self._head
            whole, before = before, before.rstrip()
            self._gap = whole[len(before) :]
        elif end:
            self._held = ""
        else:
            kept = before[: len(before) - overlap(before, OPENS_CALL)].rstrip()
            before, self._held = kept, before[len(kept) :]
        if before and not (self._fresh and before.isspace()):
            yield before

    def _head(self, end: bool) -> Iterator[str | CallPiece]:
        """Read a call up to its arguments; or all of it where these do not stand last, as an object."""
        if (head := _HEAD.match(self._held)) is not None and (name := _string(head[1])):
            self._held, self._step = self._held[head.end() :], self._arguments
            self._scan = _ObjectEnd()
            self.calls += 1
            yield CallPiece(self.calls - 1, name, "")
            return
        inner, closed, behind = self._held.partition(CLOSES_CALL)
        if not (closed or end):
            return
        self._step, self._fresh = self._text, True
        if (called := _called(inner)) is not None and called[0]:
            self._held = behind
            self.calls += 1
            yield CallPiece(self.calls - 1, *called)
            return
        inner, again, rest = inner.partition(OPENS_CALL)  # the model only spoke of the tag
        self._held = again + rest + closed + behind if again else behind
        cut = end and not closed and inner.lstrip().startswith("{")
        if inner.strip() and not cut:
            self._fresh = False
            yield self._gap + inner.strip()

    def _arguments(self, end: bool) -> Iterator[str | CallPiece]:
        """Pass arguments on up to the object's end, or to a closing tag in what is no JSON."""
        size, over = self._scan.feed(self._held)
        if size:
            yield CallPiece(self.calls - 1, "", self._held[:size])
        self._held = self._held[size:]
        if over:
            self._step = self._tail

    def _tail(self, end: bool) -> Iterator[str | CallPiece]:
        """Drop what closes a call."""
        behind = _TAIL.sub("", self._held, count=1)
        if CLOSES_CALL.startswith(behind) and behind != CLOSES_CALL and not end:
            return
        if CLOSES_CALL.startswith(behind):
            behind = ""
        self._held, self._fresh = behind.removeprefix(CLOSES_CALL), True
        self._step = self._bare if self._names else self._text
        yield from ()


class _ObjectEnd:
    """Finds the end of a JSON object in its pieces; a closing tag outside of its strings ends it, too."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False

    def feed(self, text: str) -> tuple[int, bool]:
        """Return how many characters of `text` belong to the object, and whether it ends there."""
        for place, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = character == "\\", character != '"'
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return place + 1, True
            elif character == "<" and CLOSES_CALL.startswith(tag := text[place : place + len(CLOSES_CALL)]):
                return place, tag == CLOSES_CALL
        return len(text), False


def split_calls(text: str, *, parallel: bool = True, names: Collection[str] = ()) -> tuple[str, list[tuple[str, str]]]:
    """Return an answer's text without its calls, and their names and arguments; see `CallSplitter`."""
    splitter, words, calls = CallSplitter(parallel=parallel, names=names), [], list[tuple[str, str]]()
    for piece in (*splitter.feed(text), *splitter.close()):
        if isinstance(piece, str):
            words.append(piece)
        elif piece.index == len(calls):
            calls.append((piece.name, piece.arguments))
        else:
            name, arguments = calls[piece.index]
            calls[piece.index] = name, arguments + piece.arguments
    return "".join(words), calls


def _called(text: str) -> tuple[str, str] | None:
    """Return name and arguments of the call that a text begins with; None where it begins with none."""
    called = json_object(text, whole=False)
    if called is None or not isinstance(name := called.get("name"), str):
        return None
    given = called.get("arguments", called.get("parameters", ""))
    return name, given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _string(literal: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return ""


def json_object(text: str, *, whole: bool = True) -> Mapping[str, Any] | None:
    """Return the JSON object in a text, or (not `whole`) at its beginning."""
    try:
        value = json.loads(text) if whole else json.JSONDecoder().raw_decode(text.lstrip())[0]
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*("(?:[^"\\\n]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)', re.DOTALL
)
_BARE, _LONGEST_HEAD = '{"name":"', 200
_TAIL = re.compile(r"\s*\}?\s*")
