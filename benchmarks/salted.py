"""A model at a vLLM endpoint that finds nothing in the prefix cache from before, for the benchmarks that count tokens.

A benchmark that asks for the same problems again, or at a server that others use too, would find its prompts in the
cache. vLLM keeps requests with another `cache_salt` apart; prompts and answers stay what they are.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

from tandem.ledger import Role
from tandem.models.base import Delta, Request
from tandem.models.catalog import find, spec_of
from tandem.models.openai import OpenAIModel
from tandem.models.openai.transport import Endpoint
from tandem.models.weights import folder_of

_TIMEOUT = 3600.0  # a server that is busy with other things may send nothing for long


class Salted(OpenAIModel):
    """A model of the catalog behind an endpoint; `asked` has its requests by affinity, in order."""

    def __init__(self, name: str, url: str, role: Role) -> None:
        entry = find(name)
        spec = spec_of(entry).model_copy(update={"backend": "openai", "local": True})
        tokenizer = folder_of(entry) / "tokenizer.json"
        super().__init__(
            spec, base_url=url, role=role, served_name=name, tokenizer_path=tokenizer if tokenizer.is_file() else None
        )
        self.endpoint = self._salting = _Salting(
            url, name, role=role, api_key_env=None, max_in_flight=256, timeout=_TIMEOUT
        )
        self.asked: defaultdict[str, list[Request]] = defaultdict(list)

    @property
    def salt(self) -> str:
        return self._salting.salt

    def forget(self) -> None:
        """Take a new salt: what was asked so far is in no cache any more."""
        self._salting.salt = uuid.uuid4().hex
        self.asked.clear()

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked[request.affinity].append(request)
        return super().stream(request)


class _Salting(Endpoint):
    salt = uuid.uuid4().hex

    def chat(self, body: dict[str, Any], slot: Any) -> Any:
        return super().chat(body | {"cache_salt": self.salt}, slot)

    def completion(self, body: dict[str, Any], slot: Any) -> Any:
        return super().completion(body | {"cache_salt": self.salt}, slot)
