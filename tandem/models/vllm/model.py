"""One model behind several endpoints: a call goes to the replica that knows its prompt, and elsewhere if that dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from tandem.errors import EndpointError, TandemError, UsageError
from tandem.ledger import Usage
from tandem.models.base import Attempt, Completion, Delta, Reading, Request, gather
from tandem.models.openai import OpenAIModel
from tandem.models.openai.errors import Backoff, Failure
from tandem.models.openai.tries import Handed
from tandem.models.vllm.members import Member, Members
from tandem.models.vllm.routing import SLACK, Router
from tandem.spec import ModelSpec

_BUSY = {408, 409, 429, 503}  # worth a wait at the replica that knows the prompt


class PooledModel:
    """A model that several endpoints serve. Nothing is connected before the first call.

    A call whose replica fails goes on at another one: where the text stopped if the model continues text, else from
    the start without what is known. Each try that failed is reported (`Delta.failed`). A replica whose connection
    failed gets nothing until it answers again. Calls raise what those of OpenAIModel do, and EndpointError
    (retryable) when all replicas stay down.
    """

    def __init__(
        self,
        spec: ModelSpec,
        urls: Sequence[str],
        *,
        address: str | None = None,
        patience: float = 180.0,
        slack: float = SLACK,
        retries: int = 6,
        **options: Any,
    ) -> None:
        """Describe the replicas.

        urls: of each replica, up to and with `/v1`.
        address: what stands for the pool where its URLs change from run to run (a response cache goes by it).
        patience: seconds to wait for a replica that is being restarted, when no other is up.
        slack: how far above the mean a replica's load may go, see `routing.bound`.
        retries: further tries of a call, and one more for each replica.
        options: for the OpenAIModel of each, see there.

        Raises UsageError for no URL, or the same one twice.
        """
        urls = [url.rstrip("/") for url in urls]
        if not urls or len(set(urls)) < len(urls):
            raise UsageError("a pool needs one or more endpoints, each named once")
        self._spec = spec
        self._retries = retries
        self._options = options
        self._moved: list[OpenAIModel] = []
        members = [Member(url, self._at(url)) for url in urls]
        self._members = Members(members, Router(slack), patience)
        self._first = members[0].model
        self.address = address or ", ".join(member.model.address for member in members)

    @property
    def spec(self) -> ModelSpec:
        """What is known of the model; the replicas share it."""
        return self._spec

    @spec.setter
    def spec(self, spec: ModelSpec) -> None:
        self._spec = spec
        for member in self._members.all:
            member.model.spec = spec

    @property
    def loads(self) -> dict[str, int]:
        """The open requests of each replica, by URL."""
        return {member.url: member.load for member in self._members.all}

    @property
    def states(self) -> dict[str, tuple[bool, int]]:
        """Whether each replica is up, and its open requests, by URL."""
        return {member.url: (member.up, member.load) for member in self._members.all}

    async def complete(self, request: Request) -> Completion:
        """Return the whole answer."""
        return await gather(self.stream(request))

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Yield the answer as it is written; closing the generator closes the connection, so that the server stops."""
        members, handed, tried = self._members, Handed.of(self.spec, request), set[str]()
        here, moves = _Here(self._retries), Backoff(self._retries + len(members.all))
        while True:
            member = await members.choose(request.affinity, tried)
            began = time.monotonic()
            try:
                with members.use(member):
                    async with aclosing(member.model.resume(handed, here)) as deltas:
                        async for delta in deltas:
                            if delta.failed is not None:
                                began = time.monotonic()
                            yield delta
                members.answered(member)
                return
            except Failure as failure:
                if failure.status is None and failure.retryable:
                    members.failed(member, str(failure))
                tried.add(member.url)
                if handed.lost:
                    raise
                pause = moves.pause(failure)
                failed = Attempt(str(failure), failure.usage or Usage(), time.monotonic() - began)
            yield Delta(failed=failed)
            if not members.fresh(tried):
                tried.clear()
                await asyncio.sleep(pause)

    async def read(self, text: str, *, top_logprobs: int = 20, max_tokens: int | None = None) -> Reading:
        """Read `text` without answering it, on the least busy replica; see `Reads`."""
        member = await self._members.choose(text, set())
        with self._members.use(member):
            return await member.model.read(text, top_logprobs=top_logprobs, max_tokens=max_tokens)

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest beginning of `text` with at most `tokens` tokens, as well as they are known here."""
        return self._first.cut(text, tokens)

    def count(self, text: str) -> int:
        """Return how many tokens `text` has, as well as they are known here."""
        return self._first.count(text)

    async def probe(self) -> ModelSpec:
        """Find out what each replica serves and can do; return and keep the completed spec.

        A replica that does not answer counts as down, if another one does. Raises EndpointError if they differ.
        """
        members = self._members.all
        found = await asyncio.gather(*(member.model.probe() for member in members), return_exceptions=True)
        specs: list[tuple[Member, ModelSpec]] = []
        errors: list[tuple[Member, TandemError]] = []
        for member, result in zip(members, found, strict=True):
            if isinstance(result, ModelSpec):
                specs.append((member, result))
            elif isinstance(result, TandemError):
                errors.append((member, result))
            else:
                raise result
        if not specs:
            raise errors[0][1]
        for member, error in errors:
            if not (isinstance(error, EndpointError) and error.retryable):
                raise EndpointError(f"replicas of different models in one pool: {error}")
            self._members.failed(member, str(error))
        first, spec = specs[0]
        for other, its in specs[1:]:
            for name in ("context", "continuation", "logprobs"):
                if getattr(its, name) != getattr(spec, name):
                    said = f"{first.url} serves '{spec.name}' with {name} {getattr(spec, name)}"
                    said += f", {other.url} with {getattr(its, name)}"
                    raise EndpointError(f"replicas of different models in one pool: {said}")
        await self._same_weights([member for member, _ in specs])
        spec = spec.model_copy(update={"token_ids": all(its.token_ids for _, its in specs)})
        self.spec = spec
        self._members.context = spec.context
        return spec

    async def _same_weights(self, members: Sequence[Member]) -> None:
        """Raise EndpointError where endpoints have different weights behind one name, as far as they say."""
        if len(members) < 2:
            return
        weights = await asyncio.gather(*(member.model.weights() for member in members))
        named = {name: member.url for member, name in zip(members, weights, strict=True) if name}
        if len(named) > 1:
            (its, first), (other, second) = list(named.items())[:2]
            raise EndpointError(
                f"replicas of different models in one pool: behind '{self._spec.name}', {first} has the weights {its}, "
                f"{second} has {other}; if they are the same, serve them from folders of one name"
            )

    def set_up(self, url: str, up: bool) -> None:
        """Take the word of whoever started the replicas that one is down and being restarted, or is back.

        The calls of one that is down go elsewhere at once, even where its machine just fell silent. Raises UsageError
        for a URL that is not one of them.
        """
        self._members.set_up(url, up)

    def give_up(self, url: str, why: str) -> None:
        """Take the word of whoever started the replicas that one will not come back.

        When that is said of all, calls raise EndpointError with the reasons, without waiting. Raises UsageError for a
        URL that is not one of them.
        """
        self._members.give_up(url, why)

    def replace_url(self, url: str, new: str) -> None:
        """Take the word of whoever started the replicas that one which is down will be back at another URL.

        `set_up` says when. Raises UsageError for a URL that is not one of them, or a new one that is.
        """
        if new.rstrip("/") in self.loads:
            raise UsageError(f"{new} is a replica of this pool already")
        model = self._at(new)
        self._moved.append(self._members.move(url, new, model))

    async def aclose(self) -> None:
        """Close the connections; calls in flight end with an EndpointError."""
        await self._members.aclose()
        await asyncio.gather(*(model.aclose() for model in (*self._moved, *(m.model for m in self._members.all))))

    def _at(self, url: str) -> OpenAIModel:
        return OpenAIModel(self._spec, base_url=url, **self._options)


class _Here(Backoff):
    """The waits at one replica: for one that is busy. After any other failure the call goes elsewhere."""

    def pause(self, failure: Failure) -> float:
        """Return the seconds before the next try; raises `failure` where it is to be made elsewhere, if anywhere."""
        if failure.retryable and (failure.status is None or failure.status >= 500) and failure.status not in _BUSY:
            raise failure
        return super().pause(failure)
