"""A model inside this process, with Transformers: on a GPU, on Apple silicon, or on any CPU.

The batch is our own (`batching.py`): the continuous batching of Transformers (5.19) gives no more than the drawn
token's log-probability, has one random state for all requests, and lays attention out for paged GPU kernels.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.models.base import Delta, Model, Reading, Request
from tandem.models.tokens import TokenCounter
from tandem.models.transformers.chat import begun_call, conversation
from tandem.models.transformers.detokenise import Detokeniser
from tandem.models.transformers.grammar import Grammars, JsonGrammar
from tandem.models.transformers.load import Loaded, first_line, load
from tandem.models.transformers.prompt_logprobs import PromptReader, checked_ids
from tandem.models.transformers.worker import GenerationRow, InferenceThread
from tandem.spec import ModelSpec
from tandem.thinking import OPENS
from tandem.tools import ADVICE

T = TypeVar("T")


class TransformersModel(Model):
    """A causal language model of Transformers, loaded at the first call or `probe`.

    All requests in flight are decoded together, token by token, by one thread; requests join and leave between two
    tokens. Calls may raise MissingPackageError without the `local` extra, and EndpointError where the model cannot be
    loaded, the context is too short or memory runs out. With float32 a request's answer does not depend on the others;
    in bfloat16 and float16 it may, as in every engine.
    """

    def __init__(
        self,
        spec: ModelSpec,
        path: str | Path | Callable[[], Path],
        *,
        device: str | None = None,
        dtype: str = "auto",
        max_batch: int = 32,
        prompt_cache_mb: int = 256,
    ) -> None:
        """Name the model.

        path: a folder with a Transformers model, its id on the model hub, or what fetches the folder when first needed.
        device: cpu, cuda, cuda:1, mps; None takes the best there is.
        dtype: float32, bfloat16, float16; auto is bfloat16 on CUDA and on CPUs with fast bfloat16, float16 on MPS.
        max_batch: requests decoded concurrently; the others wait.
        prompt_cache_mb: room for the prompts (their key-value tensors) that later requests of the same affinity share.
        """
        self.spec = spec
        self.address = f"in process {spec.name if callable(path) else path} {dtype}"
        self._path = path
        self._load = (device, dtype)
        self._max_batch = max_batch
        self._prompt_bytes = prompt_cache_mb << 20
        self._guard = threading.Lock()
        self._grammars = Grammars()
        self._worker: InferenceThread | None = None
        self._closed = False

    @property
    def device(self) -> str:
        """Where it computes (cpu, cuda:0, mps), once it is loaded."""
        return str(self._worker.loaded.result().model.device) if self._worker else ""

    @property
    def running(self) -> int:
        return self._worker.running if self._worker else 0

    @property
    def waiting(self) -> int:
        return len(self._worker.waiting) if self._worker else 0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.tools and not request.tools.textual:
            raise CapabilityError(f"{self.spec.name} in this process takes no tools: {ADVICE}")
        worker, loaded = await self._ready()
        grammar = await self._grammar(loaded, request)
        if request.response_format is not None:
            request = replace(request, messages=request.told)
        tokens = self._prompt(loaded, request)
        job = GenerationRow(
            tokens=tokens,
            sampling=request.sampling,
            top=request.top_logprobs or 0,
            alternatives=request.alternatives,
            score=None if request.alternatives is None else loaded.score,
            grammar=grammar,
            affinity=request.affinity,
            max_tokens=request.max_tokens,
            detokeniser=Detokeniser(loaded.text, tokens, request.sampling.stop),
            loop=asyncio.get_running_loop(),
            mailbox=asyncio.Queue(),
        )
        worker.submit(job)
        opened = loaded.spec.opens_thinking and request.prefix is None and request.raw is None
        tag = OPENS if opened else self._begun(request)
        try:
            while True:
                item = await job.mailbox.get()
                if not isinstance(item, Delta):
                    raise item
                if tag and item.text:
                    item, tag = replace(item, text=tag + item.text), ""
                yield item
                if item.finish_reason:
                    return
        finally:
            job.closed = True

    async def read(
        self,
        text: str | Sequence[int],
        *,
        top_logprobs: int = 20,
        max_tokens: int | None = None,
        alternatives: int | None = None,
    ) -> Reading:
        """Read `text` without answering it, see `Reads`. Raises UsageError for one that does not fit the context."""
        worker, _ = await self._ready()
        options: dict[str, Any] = {"top_logprobs": max(top_logprobs, 1), "max_tokens": max_tokens}
        options["alternatives"] = alternatives
        reader = await asyncio.to_thread(worker.aside, lambda loaded: PromptReader(loaded, text, **options))
        while not reader.done:  # the batch, and a reader that gives up, have their turn between two portions
            await asyncio.to_thread(worker.aside, lambda _: reader.step())
        return await asyncio.to_thread(worker.aside, lambda _: reader.reading())

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text, see `Tokenizes`."""

        def encoded(loaded: Loaded) -> list[int]:
            found: list[int] = loaded.tokenizer(text, add_special_tokens=special)["input_ids"]
            return found

        return await self._tokenized(encoded)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, see `Tokenizes`. Raises UsageError for an id that the model does not have."""
        return await self._tokenized(lambda loaded: loaded.whole_text(checked_ids(loaded, ids)))

    async def special_tokens(self) -> dict[str, str | None]:
        """Return its special tokens by name, see `Tokenizes`."""
        names = ("bos_token", "eos_token", "pad_token")
        return await self._tokenized(lambda loaded: {name: getattr(loaded.tokenizer, name, None) for name in names})

    async def _tokenized(self, work: Callable[[Loaded], T]) -> T:
        worker, _ = await self._ready()
        return await asyncio.to_thread(worker.aside, work)  # one tokenizer is not for two threads at once

    def cut(self, text: str, tokens: int) -> str:
        return self._counter.cut(text, tokens)

    def count(self, text: str) -> int:
        return self._counter.count(text)

    async def probe(self) -> ModelSpec:
        """Load the model; return and keep the specification completed from its configuration."""
        await self._ready()
        return self.spec

    async def aclose(self) -> None:
        """End the thread and free the weights; requests in flight end with an EndpointError."""
        with self._guard:
            worker, self._worker, self._closed = self._worker, None, True
        if worker is not None:
            await asyncio.to_thread(worker.stop)

    def _source(self) -> str:
        return str(self._path() if callable(self._path) else self._path)

    @functools.cached_property
    def _counter(self) -> TokenCounter:
        """The model's tokenizer without its weights: `cut` and `count` may be called before anything is loaded."""
        source = self._source()
        path = Path(source).expanduser() / "tokenizer.json"
        if not path.is_file():
            try:
                from huggingface_hub import hf_hub_download

                path = Path(hf_hub_download(source, path.name, revision=self.spec.revision))
            except Exception as error:
                raise EndpointError(f"'{source}' has no {path.name} to count with: {first_line(error)}") from error
        return TokenCounter(self.spec.name, path)

    async def _ready(self) -> tuple[InferenceThread, Loaded]:
        """Return the worker with its model, loading it if needed; after a failure the next call tries again."""
        with self._guard:
            if self._closed:
                raise EndpointError(f"{self.spec.name} was closed")
            worker = self._worker
            if worker is None or (worker.loaded.done() and worker.loaded.exception() is not None):
                device, dtype = self._load
                worker = self._worker = InferenceThread(
                    self.spec.name,
                    lambda: load(self.spec, self._source(), device=device, dtype=dtype),
                    max_batch=self._max_batch,
                    prompt_bytes=self._prompt_bytes,
                )
        loaded = await asyncio.wrap_future(worker.loaded)
        self.spec = loaded.spec
        return worker, loaded

    def _prompt(self, loaded: Loaded, request: Request) -> list[int]:
        """Return the prompt's token ids; raises EndpointError for more than the context holds."""
        tokens = checked_ids(loaded, request.raw) if request.raw is not None else self._chat(loaded, request)
        if request.max_tokens < 1:
            raise UsageError("max_tokens must be at least 1")
        limit = self.spec.context
        if limit is not None and len(tokens) + request.max_tokens > limit:
            raise EndpointError(
                f"{self.spec.name}: a prompt of {len(tokens)} tokens and max_tokens {request.max_tokens} are more than "
                f"its context of {limit} tokens"
            )
        return tokens

    async def _grammar(self, loaded: Loaded, request: Request) -> JsonGrammar | None:
        """Return what the answer is decoded by; None for text, for what may be a call, and behind a beginning."""
        form = request.decoded_by
        return None if form is None else await asyncio.to_thread(self._grammars.of, loaded, form)

    def _begun(self, request: Request) -> str:
        """Return the beginning of a call that must be made; a model that thinks aloud begins otherwise."""
        return "" if self.spec.thinks or self.spec.opens_thinking else begun_call(request)

    def _chat(self, loaded: Loaded, request: Request) -> list[int]:
        """Return a conversation's token ids: messages by the chat template, then the answer's prefix.

        The prefix follows the template's own beginning of an answer, as if the model had written it. (A template asked
        to continue a message may trim it, or put an empty thinking block before it.)
        """
        tokenizer, prefix = loaded.tokenizer, request.prefix or ""
        try:
            text = conversation(tokenizer, request) + self._begun(request)
        except Exception as error:  # the template is the model's own program
            message = f"the chat template of {self.spec.name} refuses these messages: {first_line(error)}"
            raise EndpointError(message) from error
        written = prefix if isinstance(prefix, str) else ""
        if self.spec.opens_thinking:
            written = written.removeprefix(OPENS)
        tokens: list[int] = tokenizer(text + written, add_special_tokens=not tokenizer.chat_template)["input_ids"]
        if not isinstance(prefix, str):
            tokens = [*tokens, *checked_ids(loaded, prefix)]
        return tokens
