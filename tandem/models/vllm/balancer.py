"""The replicas behind one model: which of them are up, what each has to do, and how one that was down comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tandem.errors import EndpointError, TandemError, UsageError
from tandem.ledger import Usage
from tandem.models.openai import OpenAIModel
from tandem.models.openai.errors import Backoff, Failure
from tandem.models.openai.probe import served_context
from tandem.models.vllm.routing import Router

_BUSY = {408, 409, 429, 503}  # worth a wait at the replica that knows the prompt
GRACE = 30.0  # seconds to wait for a replica that is not being restarted
CHECK_SECONDS = 10.0  # for the answer to a check
FIRST_PAUSE = 0.5  # seconds before the second check; doubled each time
_LONGEST_PAUSE = 15.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class ReplicaClient:
    """One replica. `restarting`: the pool that started it reported it down, and will report when it is back.

    `gone`: it will not be.
    """

    url: str
    model: OpenAIModel
    up: bool = True
    restarting: bool = False
    gone: bool = False
    load: int = 0  # open requests
    strikes: int = 0  # how often it went down since it last answered a request to its end
    why: str = ""  # it is down
    check: asyncio.Task[None] | None = None


class LoadBalancer:
    """Hands out replicas by key and load. One that is down gets nothing; it is asked, at growing intervals, whether
    it is back, unless the pool that started it will report that.
    """

    def __init__(self, members: Sequence[ReplicaClient], router: Router, patience: float) -> None:
        """`patience`: seconds to wait while all are down and one is being restarted."""
        self.all = list(members)
        self.context: int | None = None  # what a replica that comes back must have; None: not known
        self._router = router
        self._patience = patience
        self._change: asyncio.Future[None] | None = None
        self._closed = False
        self._breaking: set[asyncio.Task[None]] = set()

    async def choose(self, key: str, tried: set[str]) -> ReplicaClient:
        """Return the replica for a request: one of `tried` only where no other is up.

        Waits where all are down. Raises EndpointError (retryable) if none comes back.
        """
        up = await self._up()
        fresh = {member.url: member for member in up if member.url not in tried}
        choice = fresh or {member.url: member for member in up}
        return choice[self._router.choose(key, {url: member.load for url, member in choice.items()})]

    @contextlib.contextmanager
    def failover(self, key: str, retries: int) -> Iterator[Failover]:
        """Lend the retry policy of one answer; `retries`: of all its tries."""
        policy = Failover(self, key, retries)
        try:
            yield policy
            if policy.member:
                policy.member.strikes = 0  # it served a request to its end
        finally:
            policy.leave()

    def failed(self, member: ReplicaClient, why: str) -> None:
        """Note that a connection to a replica failed: it gets nothing before it answers a check."""
        if member.up:
            member.strikes += 1
            self._down(member, why)

    def set_up(self, url: str, up: bool) -> None:
        member = self._named(url)
        member.restarting = not up
        if up:
            member.strikes = 0
            self._back(member)
        else:
            self._leave(member)
            self._down(member, "it is being restarted")
            self._break(member.model)

    def give_up(self, url: str, why: str) -> None:
        member = self._named(url)
        member.gone, member.restarting = True, False
        self._leave(member)
        self._down(member, why)
        self._break(member.model)

    def move(self, url: str, new: str, model: OpenAIModel) -> OpenAIModel:
        member = self._named(url)
        self._leave(member)
        self._break(member.model)  # what still waits there goes elsewhere
        old, member.url, member.model = member.model, new.rstrip("/"), model
        return old

    def has_untried(self, tried: set[str]) -> bool:
        return any(member.up and member.url not in tried for member in self.all)

    async def aclose(self) -> None:
        """Stop the checks; calls that wait for a replica get an error."""
        self._closed = True
        checks = [member.check for member in self.all if member.check]
        for member in self.all:
            self._leave(member)
        self._changed()
        with contextlib.suppress(RuntimeError):  # of a loop that is gone
            await asyncio.gather(*checks, return_exceptions=True)

    def _named(self, url: str) -> ReplicaClient:
        member = next((m for m in self.all if m.url == url.rstrip("/")), None)
        if member is None:
            raise UsageError(f"{url} is no replica of this pool")
        return member

    def _break(self, model: OpenAIModel) -> None:
        breaking = asyncio.get_running_loop().create_task(model.endpoint.disconnect())
        self._breaking.add(breaking)
        breaking.add_done_callback(self._breaking.discard)

    def _down(self, member: ReplicaClient, why: str) -> None:
        if member.up:
            _log.info("%s is down: %s", member.url, why)
        member.up, member.why = False, why
        self._changed()  # how long to wait may be another time now

    def _back(self, member: ReplicaClient) -> None:
        if not member.up:
            _log.info("%s is up again", member.url)
        member.up = True
        self._leave(member)
        self._changed()

    def _leave(self, member: ReplicaClient) -> None:
        if member.check is not None:
            member.check.cancel()
            member.check = None

    async def _up(self) -> list[ReplicaClient]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            if self._closed:
                raise EndpointError("the pool was closed", usage=Usage())
            self._ask(loop)
            if up := [member for member in self.all if member.up]:
                return up
            if all(member.gone for member in self.all):
                raise EndpointError(self._described(), usage=Usage())
            limit = self._patience if any(member.restarting for member in self.all) else min(GRACE, self._patience)
            left = began + limit - loop.time()
            if left <= 0:
                raise EndpointError(f"{self._described()} (waited {limit:g} s)", retryable=True, usage=Usage())
            if self._change is None or self._change.done() or self._change.get_loop() is not loop:
                self._change = loop.create_future()
            await asyncio.wait([self._change], timeout=left)

    def _described(self) -> str:
        reasons = "; ".join(f"{member.url}: {member.why}" for member in self.all)
        return f"none of the {len(self.all)} replicas is up: {reasons}"

    def _changed(self) -> None:
        if self._change is not None and not self._change.done() and not self._change.get_loop().is_closed():
            self._change.set_result(None)

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask every replica that is down whether it is back, unless its pool will report that."""
        for member in self.all:
            check = member.check
            if not (member.up or member.restarting or member.gone) and (
                check is None or check.done() or check.get_loop() is not loop
            ):
                member.check = loop.create_task(self._checks(member))

    async def _checks(self, member: ReplicaClient) -> None:
        pause = FIRST_PAUSE
        if member.strikes > 1:  # it answers checks and breaks requests
            pause = min(FIRST_PAUSE * 2 ** min(member.strikes, 8), _LONGEST_PAUSE)
            await asyncio.sleep(pause)
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    context = await served_context(member.model.endpoint)
                if None in (context, self.context) or context == self.context:
                    break
                member.why = f"it is back with a context of {context} tokens and not {self.context}"
            except (TandemError, TimeoutError) as error:
                member.why = str(error) or "it does not answer"
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        member.check = None  # this task, which need not be cancelled
        self._back(member)


class Failover:
    """Where the tries of one answer are made: at the replica that knows its prompt while that is only busy, else at
    the next one by key and load that was not tried yet.
    """

    def __init__(self, balancer: LoadBalancer, key: str, retries: int) -> None:
        self.member: ReplicaClient | None = None
        self._balancer = balancer
        self._key = key
        self._tried: set[str] = set()
        self._here = Backoff(retries)
        self._moves = Backoff(retries + len(balancer.all))

    async def target(self) -> OpenAIModel:
        if self.member is None:
            self.member = await self._balancer.choose(self._key, self._tried)
            self.member.load += 1
        return self.member.model

    def pause(self, failure: Failure) -> float:
        """Return the seconds before the next try, there or elsewhere; raises `failure` where there is none."""
        status, member = failure.status, self.member
        assert member is not None
        if status in _BUSY or (status or 500) < 500:
            with contextlib.suppress(Failure):  # else elsewhere, if anywhere
                return self._here.pause(failure)
        if failure.retryable and status is None:
            self._balancer.failed(member, str(failure))
        self._tried.add(member.url)
        self.leave()
        pause = self._moves.pause(failure)
        if self._balancer.has_untried(self._tried):
            return 0.0
        self._tried.clear()
        return pause

    def leave(self) -> None:
        member, self.member = self.member, None
        if member:
            member.load -= 1
