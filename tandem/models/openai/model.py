"""Models behind any OpenAI-compatible endpoint: OpenAI, OpenRouter, vLLM, SGLang, llama.cpp."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tandem.errors import CapabilityError
from tandem.ledger import Role
from tandem.models.base import Delta, Model, Reading, Request
from tandem.models.openai.errors import Backoff, Failure
from tandem.models.openai.probe import probe
from tandem.models.openai.prompt_logprobs import read_text
from tandem.models.openai.request import Dialect
from tandem.models.openai.resumable import ResumableAnswer, RetryHere
from tandem.models.openai.token_ids import REFUSED, Written, ids_of_text, text_of_ids
from tandem.models.openai.transport import Endpoint
from tandem.models.tokens import TokenCounter
from tandem.spec import ModelSpec


class OpenAIModel(Model):
    """A model at an endpoint that speaks the chat-completions API. Nothing is connected before the first call.

    Calls may raise EndpointError, MissingKeyError and CapabilityError. Transient errors are retried, and every try that
    failed is reported (`Delta.failed`). A stream that breaks is taken up where it stopped if the model continues text;
    else the answer is written again and the part that is known is left out; a text that is another the second time
    is an EndpointError with `retryable` set.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        base_url: str | None = None,
        role: Role | None = None,
        api_key_env: str | None = None,
        served_name: str | None = None,
        max_in_flight: int = 64,
        timeout: float = 600.0,
        retries: int = 6,
        tokenizer_path: Path | None = None,
    ) -> None:
        """Describe the endpoint.

        base_url: up to and with `/v1`; None is OpenAI's own.
        role: selects the key, see `ApiKeys`.
        api_key_env: the variable that holds the key, whatever the endpoint.
        served_name: the model's name at the endpoint, where it is not `spec.name`.
        max_in_flight: requests that may be open at once, where the endpoint takes as many.
        timeout: seconds to the first token, and between two.
        retries: further attempts of a call.
        tokenizer_path: tokenizer.json (or its folder) for `count` and `cut`; see TokenCounter.
        """
        self.spec = spec
        served = served_name or spec.name
        self.endpoint = Endpoint(
            base_url, served, role=role, api_key_env=api_key_env, max_in_flight=max_in_flight, timeout=timeout
        )
        self.address = f"{self.endpoint.origin.where}{urlsplit(self.endpoint.base_url).path} {served}"
        # OpenAI and OpenRouter report usage at the end only.
        self.dialect = Dialect(usage="plain" if self.endpoint.keys.own else "continuous")
        self._retries = retries
        self._tokens = TokenCounter(served, tokenizer_path)
        self.written = Written()
        self._probed = False

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        return ResumableAnswer(self.spec, request).stream(RetryHere(self, self._retries))

    async def read(
        self,
        text: str | Sequence[int],
        *,
        top_logprobs: int = 20,
        max_tokens: int | None = None,
        alternatives: int | None = None,
    ) -> Reading:
        """Read `text` without answering it, see `Reads`. Raises CapabilityError where the endpoint cannot."""
        kept = text
        if max_tokens is not None:
            kept = self.cut(text, max_tokens) if isinstance(text, str) else text[:max_tokens]
        return await read_text(self.endpoint, self.spec, kept, top_logprobs, Backoff(self._retries), alternatives)

    async def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text, see `Tokenizes`. Raises CapabilityError where the endpoint has no tokenizer."""
        with self._tokenizer():
            return await ids_of_text(self.endpoint, text, special=special)

    async def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, see `Tokenizes`. Raises CapabilityError where the endpoint has no tokenizer."""
        with self._tokenizer():
            return await text_of_ids(self.endpoint, ids)

    async def special_tokens(self) -> dict[str, str | None]:
        """Return nothing known: vLLM tells only where it was started to (`--enable-tokenizer-info-endpoint`)."""
        return {"bos_token": None, "eos_token": None}

    @contextmanager
    def _tokenizer(self) -> Iterator[None]:
        try:
            yield
        except Failure as failure:
            if failure.status in REFUSED:
                raise CapabilityError(f"'{self.spec.name}' has no tokenizer at its endpoint ({failure})") from failure
            raise

    def cut(self, text: str, tokens: int) -> str:
        return self._tokens.cut(text, tokens)

    def count(self, text: str) -> int:
        return self._tokens.count(text)

    async def probe(self) -> ModelSpec:
        """Find out whether the model is served and what it can do, once; return and keep the completed spec."""
        if not self._probed:
            self.spec = await probe(self.endpoint, self.spec)
            self._probed = True
        return self.spec

    async def aclose(self) -> None:
        await self.endpoint.aclose()
