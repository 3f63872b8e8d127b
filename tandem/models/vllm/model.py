"""One model behind several endpoints: a call goes to the replica with its prompt cached, or another if that dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from tandem.errors import EndpointError, TandemError, UsageError
from tandem.models.base import Delta, Model, Reading, Request
from tandem.models.openai import OpenAIModel
from tandem.models.openai.probe import served_weights
from tandem.models.openai.resumable import ResumableAnswer
from tandem.models.vllm.balancer import LoadBalancer, ReplicaClient
from tandem.models.vllm.routing import SLACK, Router
from tandem.spec import ModelSpec


class PooledModel(Model):
    """A model served by several endpoints, connected at the first call.

    A call whose replica fails continues at another one: where the text stopped if the model continues text, else from
    the start, skipping the known part. Each failed attempt is reported (`Delta.failed`). A replica whose connection
    failed gets no requests until it answers again. Calls raise what those of OpenAIModel do, and EndpointError
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
        members = [ReplicaClient(url, self._at(url)) for url in urls]
        self._balancer = LoadBalancer(members, Router(slack), patience)
        self._first = members[0].model
        self.address = address or ", ".join(member.model.address for member in members)

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @spec.setter
    def spec(self, spec: ModelSpec) -> None:
        self._spec = spec
        for member in self._balancer.all:
            member.model.spec = spec

    @property
    def loads(self) -> dict[str, int]:
        return {member.url: member.load for member in self._balancer.all}

    @property
    def states(self) -> dict[str, tuple[bool, int]]:
        """Whether each replica is up, and its open requests, by URL."""
        return {member.url: (member.up, member.load) for member in self._balancer.all}

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        with self._balancer.failover(request.affinity, self._retries) as policy:
            async with aclosing(ResumableAnswer(self.spec, request).stream(policy)) as deltas:
                async for delta in deltas:
                    yield delta

    async def read(
        self,
        text: str | Sequence[int],
        *,
        top_logprobs: int = 20,
        max_tokens: int | None = None,
        alternatives: int | None = None,
    ) -> Reading:
        """Read `text` without answering it, on the least busy replica; see `Reads`."""
        with self._balancer.failover(str(text), 0) as policy:
            at = await policy.target()
            return await at.read(text, top_logprobs=top_logprobs, max_tokens=max_tokens, alternatives=alternatives)

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text, by the tokenizer of a replica; see `Tokenizes`."""
        with self._balancer.failover(text, 0) as policy:
            return await (await policy.target()).encode(text, special=special)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, by the tokenizer of a replica; see `Tokenizes`."""
        with self._balancer.failover(str(ids), 0) as policy:
            return await (await policy.target()).decode(ids)

    async def special_tokens(self) -> dict[str, str | None]:
        """Return what is known of its special tokens; see `Tokenizes`."""
        return await self._first.special_tokens()

    def cut(self, text: str, tokens: int) -> str:
        return self._first.cut(text, tokens)

    def count(self, text: str) -> int:
        return self._first.count(text)

    async def probe(self) -> ModelSpec:
        """Find out what each replica serves and can do; return and keep the completed spec.

        A replica that does not answer counts as down, if another one does. Raises EndpointError if they differ.
        """
        members = self._balancer.all
        found = await asyncio.gather(*(member.model.probe() for member in members), return_exceptions=True)
        for result in found:
            if not isinstance(result, ModelSpec | TandemError):
                raise result
        specs = [(member, its) for member, its in zip(members, found, strict=True) if isinstance(its, ModelSpec)]
        errors = [(member, its) for member, its in zip(members, found, strict=True) if isinstance(its, TandemError)]
        if not specs:
            raise errors[0][1]
        for member, error in errors:
            if not (isinstance(error, EndpointError) and error.retryable):
                raise EndpointError(f"replicas of different models in one pool: {error}")
            self._balancer.failed(member, str(error))
        first, spec = specs[0]
        for other, its in specs[1:]:
            for name in ("context", "continuation", "logprobs"):
                if getattr(its, name) != getattr(spec, name):
                    what = f"{first.url} serves '{spec.name}' with {name} {getattr(spec, name)}"
                    what += f", {other.url} with {getattr(its, name)}"
                    raise EndpointError(f"replicas of different models in one pool: {what}")
        await self._same_weights([member for member, _ in specs])
        spec = spec.model_copy(update={"token_ids": all(its.token_ids for _, its in specs)})
        self.spec = spec
        self._balancer.context = spec.context
        return spec

    async def _same_weights(self, members: Sequence[ReplicaClient]) -> None:
        if len(members) < 2:
            return
        weights = await asyncio.gather(*(served_weights(member.model.endpoint) for member in members))
        named = {name: member.url for member, name in zip(members, weights, strict=True) if name}
        if len(named) > 1:
            (its, first), (other, second) = list(named.items())[:2]
            raise EndpointError(
                f"replicas of different models in one pool: behind '{self._spec.name}', {first} has the weights {its}, "
                f"{second} has {other}; if they are the same, serve them from folders of one name"
            )

    def set_up(self, url: str, up: bool) -> None:
        """Note that a replica is down and being restarted, or is back; for the pool that started it.

        The calls of one that is down go elsewhere at once, even where its machine just fell silent. Raises UsageError
        for a URL that is not one of them.
        """
        self._balancer.set_up(url, up)

    def give_up(self, url: str, why: str) -> None:
        """Note that a replica will not come back.

        Once that holds for all, calls raise EndpointError with the reasons, without waiting. Raises UsageError for a
        URL that is not one of them.
        """
        self._balancer.give_up(url, why)

    def replace_url(self, url: str, new: str) -> None:
        """Note that a replica that is down will be back at another URL.

        `set_up` says when. Raises UsageError for a URL that is not one of them, or a new one that is.
        """
        if new.rstrip("/") in self.loads:
            raise UsageError(f"{new} is a replica of this pool already")
        model = self._at(new)
        self._moved.append(self._balancer.move(url, new, model))

    async def aclose(self) -> None:
        await self._balancer.aclose()
        await asyncio.gather(*(model.aclose() for model in (*self._moved, *(m.model for m in self._balancer.all))))

    def _at(self, url: str) -> OpenAIModel:
        return OpenAIModel(self._spec, base_url=url, **self._options)
