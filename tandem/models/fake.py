"""The scriptable model: a first look, the docs and the tests without weights. What it writes means nothing.

A token is a word with the space before it. Text comes from a script (a JSON file or a dict) or from built-in lines;
with the same script the same request always gets the same tokens, log-probabilities and usage. Without a script,
and where a problem has a reference, it is as often right as fake_answers.py says. Runs on it are marked ``synthetic``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import re
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.ledger import Usage
from tandem.models import fake_answers
from tandem.models.base import Cue, Delta, Model, Reading, Request
from tandem.models.fake_calls import fake_call, fake_reply
from tandem.models.logprobs import TokenStat, token_stat
from tandem.models.minimal_json import smallest
from tandem.spec import Architecture, Continuation, ModelSpec
from tandem.tools import ADVICE
from tandem.types import ScoredToken

_END = "<end>"
_KNOWN = 1 << 16  # token ids that a fake remembers
_TOKEN = re.compile(r"\s*\S+|\s+$")
_AT_ONCE = 8  # tokens of a built-in text in one delta, where nobody asks for their log-probabilities
_LEAST = 0.35  # the least probability of a token


class Rule(BaseModel):
    """When `when` occurs in the request's messages (and the purpose fits), `text` is the model's whole answer.

    A tool is called as in every text: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``. Where no rule fits, the
    first function is called once for each question, and its reply is the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    when: str = ""
    purpose: str | None = None
    confidence: float | None = None  # probability of each token; None: drawn by a hash of the text
    fault: str | None = None  # an EndpointError with this message, after `fault_after` tokens
    fault_after: int = 0


class Script(BaseModel):
    """What a fake model does: the first rule that fits answers; none fits: a built-in line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...] = ()
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    continuation: Continuation = Continuation.NATIVE
    logprobs: bool = True
    tools: bool = Field(default=False, exclude=True)  # the requests tell: the address stays that of the script


class FakeModel(Model):
    """A model that follows a script. `calls` lists the requests seen, `aborted` those closed before their end."""

    def __init__(self, script: Script | None = None, *, name: str = "fake", parameters: float = 1e9) -> None:
        self.script = script or Script()
        self._scripted = script is not None
        self.calls: list[Request] = []
        self.aborted: list[Request] = []
        self._pieces: OrderedDict[int, str] = OrderedDict()  # of the token ids that it has given
        self.answer: Callable[[Request], str] | None = None  # for tests that compute their text
        self.address = hashlib.sha256(self.script.model_dump_json().encode()).hexdigest()[:16]
        self.spec = ModelSpec(
            name=name,
            backend="fake",
            parameters=parameters,
            architecture=Architecture(layers=2, attention_width=64),
            vocabulary=1000,
            context=32768,
            logprobs=self.script.logprobs,
            continuation=self.script.continuation,
            tools=self.script.tools,
            synthetic=True,
        )

    @classmethod
    def from_name(cls, name: str, *, parameters: float = 1e9) -> Self:
        """Return the model behind ``fake`` or ``fake:script.json``. Raises UsageError for a bad script."""
        _, _, path = name.partition(":")
        if not path:
            return cls(parameters=parameters)
        try:
            script = Script.model_validate(json.loads(Path(path).read_text()))
        except (OSError, ValueError, ValidationError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"the fake model's script {path} cannot be used: {reason}") from None
        return cls(script, name=name, parameters=parameters)

    def _cue(self, request: Request) -> Cue | None:
        """Return the cue that a request is answered by; a script has none."""
        return None if self._scripted or self.answer or request.purpose == "score" else request.cue

    def _rule(self, request: Request) -> Rule:
        prompt = "\n".join(m.content for m in request.messages) if request.raw is None else self._raw_text(request.raw)
        if self.answer:
            return Rule(text=self.answer(request))
        for rule in self.script.rules:
            if rule.when in prompt and rule.purpose in (None, request.purpose):
                return rule
        return Rule(text=self._written(request, prompt))

    def _written(self, request: Request, prompt: str) -> str:
        """Return what it writes without a script."""
        insight, form = request.purpose == "insight", request.response_format
        if request.tools and (call := fake_call(request.tools, request.messages)):
            return call
        if form:
            return json.dumps(smallest(json.loads(form.schema))) if form.schema else '{"answer": 0}'
        if request.messages and request.messages[-1].role == "tool":
            return fake_reply(request.messages)
        if cue := self._cue(request):  # without the headings, an insight is the beginning of an answer
            return fake_answers.insight() if insight and "Goal:" in prompt else fake_answers.answer(cue)
        return fake_answers.SHORT_INSIGHT if insight else _answer(prompt)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Yield the scripted answer token by token; a prefix is skipped where the script's text begins with it."""
        if request.tools and not (self.spec.tools or request.tools.textual):
            raise CapabilityError(f"{self.spec.name} takes no tools: {ADVICE}")
        self.calls.append(request)
        rule, cue = self._rule(request), self._cue(request)
        prefix = request.prefix if isinstance(request.prefix, str) else ""
        text = rule.text[len(prefix) :] if rule.text.startswith(prefix) else rule.text
        for stop in request.sampling.stop:
            text = text.partition(stop)[0]
        tokens = _TOKEN.findall(text)
        written = tokens[: request.max_tokens]
        step = _AT_ONCE if cue and not request.top_logprobs else 1
        least = fake_answers.least_likely(cue) if cue else _LEAST
        prompt = request.prompt_tokens(self.count)
        ended = False
        try:
            await asyncio.sleep(self.script.first_token_seconds)
            for index in range(0, len(written), step):
                if rule.fault and index >= rule.fault_after:
                    raise EndpointError(rule.fault)
                piece = written[index : index + step]
                stats, scored = self._measured(request, rule, index, piece[0], least)
                yield Delta(text="".join(piece), tokens=len(piece), stats=stats, scored=scored)
                await asyncio.sleep(self.script.token_seconds * len(piece))
            if rule.fault:
                raise EndpointError(rule.fault)
            ended = True
            whole = len(written) == len(tokens)
            yield Delta(
                finish_reason="stop" if whole else "length",
                usage=Usage(prompt=prompt, completion=len(written)),
                scored=self._measured(request, rule, len(written), _END)[1] if whole else (),
            )
        finally:
            if not ended:
                self.aborted.append(request)

    async def read(
        self,
        text: str | Sequence[int],
        *,
        top_logprobs: int = 20,
        max_tokens: int | None = None,
        alternatives: int | None = None,
    ) -> Reading:
        """Return made-up statistics of a given text: the same words in the same place always get the same ones."""
        if not self.script.logprobs:
            raise CapabilityError(f"{self.spec.name} gives no log-probabilities of a prompt")
        pieces = (_TOKEN.findall(text) if isinstance(text, str) else [self._piece(one) for one in text])[:max_tokens]
        reading = Rule(text="reading")
        top = max(top_logprobs, 1)
        asked = Request(messages=(), purpose="probe", max_tokens=1, top_logprobs=top, alternatives=alternatives)
        found = [self._measured(asked, reading, k, piece) for k, piece in enumerate(pieces[1:])]
        stats = [stat for its, _ in found for stat in its]
        usage = Usage(prompt=len(pieces), completion=1)
        if alternatives is None:
            return Reading(pieces, stats, usage)
        scored = [ScoredToken(piece, None) for piece in pieces[:1]] + [one for _, its in found for one in its]
        rule = self._rule(replace(asked, raw="".join(pieces), purpose="answer"))
        following = next(iter(_TOKEN.findall(rule.text)), "")
        (token,) = self._measured(asked, rule, 0, following or _END)[1]
        return Reading(pieces, stats, usage, "".join(pieces), scored, token, ended=not following)

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text, one a word; it has no special tokens."""
        ids = []
        for piece in _TOKEN.findall(text):
            ids.append(zlib.crc32(piece.encode()) >> 1)  # the same in every process, and below 2**31
            self._pieces[ids[-1]] = piece
            self._pieces.move_to_end(ids[-1])
        while len(self._pieces) > _KNOWN:
            self._pieces.popitem(last=False)
        return ids

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; of those that it never gave, their numbers."""
        return self._raw_text(ids)

    async def special_tokens(self) -> dict[str, str | None]:
        """Return its end of a text: it has no other special token."""
        return {"bos_token": None, "eos_token": _END}

    def _piece(self, token: int) -> str:
        return self._pieces.get(token, f" <{token}>")

    def _raw_text(self, raw: str | Sequence[int]) -> str:
        return raw if isinstance(raw, str) else "".join(self._piece(token) for token in raw)

    def _measured(
        self, request: Request, rule: Rule, index: int, token: str, least: float = _LEAST
    ) -> tuple[tuple[TokenStat, ...], tuple[ScoredToken, ...]]:
        """Return a token's statistics, and it with its alternatives, as far as they are asked for."""
        if not request.top_logprobs or not self.script.logprobs:
            return (), ()
        draw = random.Random(f"{rule.text}|{index}|{token}").uniform(least, 0.999)
        p = rule.confidence if rule.confidence is not None else draw
        k = request.top_logprobs
        rest = max((1 - p) / (2 * max(k - 1, 1)), 1e-12)
        stat = token_stat(math.log(p), [math.log(p)] + [math.log(rest)] * (k - 1), self.spec.vocabulary)
        if request.alternatives is None:
            return (stat,), ()
        others = [ScoredToken(f" or{n}", math.log(rest)) for n in range(1, k)]
        top = sorted([ScoredToken(token, stat.logprob), *others], key=lambda one: -(one.logprob or 0.0))
        return (stat,), (ScoredToken(token, stat.logprob, tuple(top[: request.alternatives])),)

    def cut(self, text: str, tokens: int) -> str:
        return "".join(_TOKEN.findall(text)[:tokens])

    def count(self, text: str) -> int:
        return len(_TOKEN.findall(text))

    async def probe(self) -> ModelSpec:
        return self.spec

    async def aclose(self) -> None:
        """Do nothing: a fake holds nothing."""


def _answer(prompt: str) -> str:
    # Any number in the prompt: a synthetic answer need not be right.
    numbers: list[Any] = re.findall(r"\d+", prompt)
    return f"Taking the numbers in turn , the answer is \\boxed{{{numbers[-1] if numbers else 0}}}"
