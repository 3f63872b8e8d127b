"""The server's work: an admitted request is solved within its deadline, and its metrics are recorded once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from tandem.engine import Tandem
from tandem.errors import TandemError
from tandem.ledger import Ledger
from tandem.server.errors import FAULT, ApiError, api_error
from tandem.server.gate import Gate, Seat
from tandem.server.keys import Account, KeyRing
from tandem.server.metrics import Metrics
from tandem.server.requests import ModelMenu, Prompt, SolveRequest, check_scored
from tandem.server.schema import ChatRequest, CompletionRequest
from tandem.server.tracing import Trace, span
from tandem.types import AnswerDelta, CallDelta, Decision, Event, InsightDelta, Solution, ThinkingDelta

_log = logging.getLogger(__name__)
_GRACE = 2.0  # seconds beyond the deadline for a client to read the rest
_SHORT = 16_000  # bytes of a request that is read at once: its tokens are counted in milliseconds


class Service:
    """What all requests share: the offered models, accounts, the gate and metrics; no state of a single request."""

    def __init__(
        self, menu: ModelMenu, keys: KeyRing, gate: Gate, *, deadline: float | None = None, keep_alive: float = 10.0
    ) -> None:
        """`deadline`: seconds that a request may take once it has a slot; None: no limit.

        `keep_alive`: seconds of silence after which a stream has a comment.
        """
        self.menu, self.keys, self.gate = menu, keys, gate
        self.deadline, self.keep_alive = deadline, keep_alive
        self.metrics = Metrics(gate, {"mentor": self.engine.mentor, "intern": self.engine.intern})
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tandem-reading")  # tokenizers are not for two at once
        self.ready = False
        self.failure: str | None = None  # why the models cannot be reached

    @property
    def engine(self) -> Tandem:
        return self.menu.engine

    async def prepare(self) -> None:
        """Connect both models; a failure is kept in `failure`, logged once, and raised."""
        try:
            await self.engine.prepare()
        except Exception as error:
            logged, self.failure = self.failure, str(error) or type(error).__name__
            if logged != self.failure:
                _log.warning("not ready: %s", self.failure, exc_info=not isinstance(error, TandemError))
            raise
        self.ready = True

    def check_ready(self) -> None:
        """Raise ApiError 503 while the models are being made ready."""
        if not self.ready:
            raise ApiError(503, self.failure or "the models are being made ready; try again soon", retry_after=5)

    def enter(self, account: Account, choices: int) -> None:
        """Count a request's choices against its key's rate, before any work is done for it.

        Raises ApiError 429 over the rate or where the server is full, 503 where it is not ready or shuts down.
        """
        self.check_ready()
        self.gate.check()  # before the rate is counted: a full server does not use it up
        account.enter(choices)

    async def read(
        self, body: ChatRequest | CompletionRequest, prompts: Sequence[Prompt | None], sent: int
    ) -> list[SolveRequest]:
        """Return the choices of a request that was sent in so many bytes.

        A long one's tokens are counted in a thread, and a schema is checked there: that may take a second.
        """

        def ask() -> list[SolveRequest]:
            asked = [one for prompt in prompts for one in self.menu.ask(body, prompt)]
            check_scored(asked, self.engine.intern.count)
            return asked

        schema = isinstance(body, ChatRequest) and bool(body.response_format or body.tools)
        if sent <= _SHORT and not schema:
            return ask()
        return await asyncio.get_running_loop().run_in_executor(self._reader, ask)

    @asynccontextmanager
    async def admit(self, account: Account, asked: Sequence[SolveRequest]) -> AsyncGenerator[Bill, None]:
        """Hold a request's share of the budget and a place in the queue; `Bill.begin` waits for its slot.

        Raises ApiError if one is not available. The actual cost is always charged and counted.
        """
        reserved = sum(one.at_most for one in asked)
        number = self.keys.reserve(account, reserved)
        bill = Bill(account.entry.name, deadline=self.deadline)
        try:
            async with self.gate.enter() as bill.seat:
                yield bill
        finally:
            self.metrics.spent(bill.ledger)
            usd = sum(entry.usd_bound or 0.0 for entry in bill.ledger)  # of the priced calls
            self.metrics.charged(bill.key, usd)
            self.keys.settle(account, number, reserved, usd)

    async def solve(self, asked: SolveRequest, bill: Bill) -> AsyncGenerator[Event, None]:
        """Yield the events of one choice; closing the generator aborts both models' requests.

        Raises ApiError for a failure or when the deadline is over.
        """
        name, ledger = asked.options.strategy or "", Ledger()
        left = None if self.deadline is None else bill.began + self.deadline - time.monotonic()
        try:
            with span("tandem.solve", strategy=name, model=asked.model) as trace:
                stream = self.engine.astream(asked.problem, options=asked.options, ledger=ledger)
                async with aclosing(stream) as events:
                    async for event in self._timed(events, left):
                        self._note(event, bill, trace)
                        yield event
        except TandemError as error:
            raise api_error(error, raw=asked.problem.raw is not None) from None
        except ApiError:
            raise
        except Exception as error:  # a bug of ours becomes a 500, in a stream too
            _log.exception("an error while solving with %s", name)
            raise ApiError(500, FAULT) from error
        finally:  # also where the client has disconnected
            bill.ledger += ledger

    async def _timed(self, events: AsyncGenerator[Event, None], left: float | None) -> AsyncGenerator[Event, None]:
        """Yield events until the deadline, or until a drain is over. Raises ApiError then; the reader's time counts."""
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        with self.gate.limit(deadline) as limit:
            while True:
                try:
                    event = await limit.next(events)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if not limit.over:
                        raise
                    if self.gate.broken:
                        raise ApiError(503, "this server is shutting down; ask again", code="shutting_down") from None
                    raise ApiError(
                        504, f"the answer took longer than this server's {self.deadline:g} s", code="timeout"
                    ) from None
                yield event

    def _note(self, event: Event, bill: Bill, trace: Trace) -> None:
        now = time.monotonic() - bill.began
        if isinstance(event, InsightDelta) and not bill.insight_seen:
            bill.insight_seen = True
            self.metrics.latency("first_insight", now)
        elif isinstance(event, AnswerDelta | CallDelta | ThinkingDelta) and not bill.answer_seen:
            bill.answer_seen = True
            self.metrics.latency("first_token", now)
        elif isinstance(event, Decision):
            self.metrics.decided(event)
            names = ("level", "action", "sufficiency", "threshold", "insight_tokens", "kind")
            trace.event("decision", {name: getattr(event, name) for name in names})
        elif isinstance(event, Solution):
            self.metrics.solved(event)
            self.metrics.latency("end", now)
            trace.set("level", event.level or "")
            trace.set("mentor_tokens", event.ledger.mentor_tokens)
            trace.set("intern_tokens", event.ledger.intern_tokens)


@dataclass(slots=True)
class Bill:
    key: str = "anyone"  # the name of who pays
    ledger: Ledger = field(default_factory=Ledger)
    began: float = field(default_factory=time.monotonic)
    insight_seen: bool = False
    answer_seen: bool = False
    failed: int | None = None  # the status of an error during a stream
    deadline: float | None = None  # seconds from `began`
    seat: Seat = field(default_factory=Seat)
    limit: asyncio.Timeout | None = None

    async def begin(self) -> None:
        """Wait for the request's slot: its time runs from then on."""
        await self.seat.taken()
        self.began = time.monotonic()
        if self.limit is not None and self.deadline is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + self.deadline + _GRACE)

    def limit_by(self, limit: asyncio.Timeout) -> None:
        """Have a time-out end the response a little after the deadline."""
        self.limit = limit
