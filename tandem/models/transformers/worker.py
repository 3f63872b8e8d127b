"""The thread that owns an in-process model: it admits requests, runs the batch token by token, and sends results."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from tandem.errors import EndpointError, TandemError
from tandem.ledger import Usage
from tandem.models.base import Delta, FinishReason
from tandem.models.transformers.batching import Batch, PromptStore, Row, SampledToken
from tandem.models.transformers.detokenise import Detokeniser
from tandem.models.transformers.load import Loaded, failure
from tandem.types import ScoredToken

_CPU = threading.Lock()  # mentor and intern in one process take turns: each pass uses every core
_PORTION = {"cpu": 512}  # prompt tokens read in one pass
_PORTION_ELSEWHERE = 2048
_EXIT_SECONDS = 5.0  # a thread inside torch must not meet the interpreter's end

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class GenerationRow(Row):
    """A row that posts its tokens, as deltas, to a mailbox on its event loop."""

    max_tokens: int
    detokeniser: Detokeniser
    score: Callable[[SampledToken], ScoredToken] | None = None  # where its tokens are wanted as text
    loop: asyncio.AbstractEventLoop
    mailbox: asyncio.Queue[Delta | TandemError]
    closed: bool = False  # the reader is gone; set on the loop, checked before the next token

    def accept(self, choice: SampledToken, ends: frozenset[int]) -> Delta:
        """Return the delta of a token that was drawn. The token that ends an answer counts, and has no text."""
        written = len(self.tokens) - self.prompt
        finish: FinishReason | None = None
        text = ""
        if choice.token in ends:
            finish = "stop"
        else:
            text = self.detokeniser.push(choice.token)
            if self.detokeniser.stopped:
                finish = "stop"
            elif written >= self.max_tokens:
                finish = "length"
                self.resumable = True
        if finish and not self.detokeniser.stopped:
            text += self.detokeniser.flush()
            if self.detokeniser.stopped:  # the flushed text held a stop string
                finish = "stop"  # type: ignore[unreachable]
        usage = None
        if finish or written == 1:
            usage = Usage(prompt=self.prompt, cached=self.cached, completion=written)
        stats = () if choice.stat is None else (choice.stat,)
        scored = (self.score(choice),) if self.score else ()
        return Delta(text, 1, stats, finish, usage, scored=scored)


class InferenceThread:
    """One daemon thread for one model. `loaded` is set once the model is loaded; after a failed load it is unusable."""

    def __init__(self, name: str, load: Callable[[], Loaded], *, max_batch: int, prompt_bytes: int) -> None:
        self.loaded: Future[Loaded] = Future()
        self.loaded.set_running_or_notify_cancel()  # a caller that gives up cannot cancel it for the others
        self._name = name
        self._load = load
        self._max_batch = max_batch
        self._store = PromptStore(prompt_bytes)
        self._batch: Batch[GenerationRow] | None = None
        self.waiting: list[GenerationRow] = []  # their prompts are not read yet
        self._outbox: list[tuple[GenerationRow, Delta | TandemError]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._turn: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        self._thread = threading.Thread(target=self._run, name=f"tandem-{name}", daemon=True)
        atexit.register(self.stop, _EXIT_SECONDS)
        self._thread.start()

    @property
    def running(self) -> int:
        return len(self._batch.rows) if self._batch else 0

    def submit(self, job: GenerationRow) -> None:
        """Queue a request. Raises EndpointError where the worker has ended."""
        with self._changed:
            if self._stopping:
                raise self._closed()
            self.waiting.append(job)
            self._changed.notify()

    def aside(self, work: Callable[[Loaded], T]) -> T:
        """Run a function on the loaded model, in the caller's thread, between two passes of the batch.

        Raises EndpointError where it fails.
        """
        with self._turn:
            try:
                return work(self.loaded.result())
            except TandemError:
                raise
            except Exception as error:
                raise failure(error, self._name, 1) from error

    def stop(self, seconds: float | None = None) -> None:
        """End the thread after the current pass and wait for it; requests in flight get an error.

        A load cannot be interrupted: its thread ends on its own afterwards and is not joined.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self.loaded.done():
            self._thread.join(seconds)

    def _closed(self) -> EndpointError:
        return EndpointError(f"{self._name} was closed")

    def _run(self) -> None:
        try:
            loaded = self._load()
        except BaseException as error:
            atexit.unregister(self.stop)
            self.loaded.set_exception(failure(error, self._name, 0))
            return
        import torch

        kind = loaded.model.device.type
        if kind == "cpu":
            self._turn = _CPU
        self._batch = Batch(loaded.model, self._store, portion=_PORTION.get(kind, _PORTION_ELSEWHERE))
        self.loaded.set_result(loaded)
        with torch.inference_mode():
            while self._wait():
                self._step(self._batch, loaded.ends)
                self._flush()
        self._drop([*self._batch.rows, *self.waiting], self._closed())
        self._flush()
        self._batch.clear()
        atexit.unregister(self.stop)

    def _wait(self) -> bool:
        """Wait for work; False means the end."""
        with self._changed:
            while not (self._stopping or self.waiting or self.running):
                self._changed.wait()
            self.waiting = [job for job in self.waiting if not job.closed]
            return not self._stopping

    def _step(self, batch: Batch[GenerationRow], ends: frozenset[int]) -> None:
        """Read a portion of waiting prompts if there is room, else write one token in every row."""
        chosen: list[tuple[GenerationRow, SampledToken]] = []
        try:
            with self._turn:
                batch.change([job for job in batch.rows if job.closed], [])
                group = batch.group(self.waiting[: self._max_batch - len(batch.rows)])
                if group:
                    chosen = self._read(batch, group)
                elif batch.rows:
                    chosen = batch.decode()
                over = self._accept(chosen, ends)
                batch.change(over, [job for job, _ in chosen if group and job not in over])
        except Exception as error:  # the batch may be corrupt, the worker is fine
            lost = dict.fromkeys([*batch.rows, *(job for job, _ in chosen)])
            self._drop(lost, failure(error, self._name, len(lost)))
            batch.clear()

    def _read(
        self, batch: Batch[GenerationRow], group: list[GenerationRow]
    ) -> list[tuple[GenerationRow, SampledToken]]:
        """Read prompts; an error here is theirs alone."""
        chosen: list[tuple[GenerationRow, SampledToken]] = []
        gone = group
        try:
            chosen = batch.prefill(group)
            gone = [job for job, _ in chosen]
        except Exception as error:
            self._store.clear()
            self._drop(group, failure(error, self._name, len(batch.rows) + len(group)))
        with self._changed:
            self.waiting = [job for job in self.waiting if job not in gone]
        return chosen

    def _accept(self, chosen: list[tuple[GenerationRow, SampledToken]], ends: frozenset[int]) -> set[GenerationRow]:
        over = set()
        for job, choice in chosen:
            delta = job.accept(choice, ends)
            self._outbox.append((job, delta))
            if delta.finish_reason:
                over.add(job)
        return over

    def _drop(self, jobs: Iterable[GenerationRow], error: TandemError) -> None:
        self._outbox.extend((job, error) for job in jobs)

    def _flush(self) -> None:
        """Deliver the posted deltas: one wake-up per event loop."""
        posts: dict[asyncio.AbstractEventLoop, list[tuple[GenerationRow, Delta | TandemError]]] = defaultdict(list)
        for job, item in self._outbox:
            posts[job.loop].append((job, item))
        self._outbox.clear()
        for loop, items in posts.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the loop was closed under us
                for job, _ in items:
                    job.closed = True


def _deliver(items: list[tuple[GenerationRow, Delta | TandemError]]) -> None:
    for job, item in items:
        job.mailbox.put_nowait(item)
