"""The models' tokenizers, at vLLM's addresses: for clients that send token ids (lm-eval reads log-probabilities so)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request

from tandem.ledger import Role
from tandem.models.base import Tokenizes
from tandem.server.errors import ApiError
from tandem.server.schema import DetokenizeRequest, TokenizeRequest
from tandem.server.service import Service


def install(app: FastAPI, service: Service, responses: Mapping[int | str, Any]) -> None:
    """Add the routes; `responses` describes their errors."""
    refused: dict[int | str, Any] = {status: text for status, text in responses.items() if status != 200}

    @app.post("/tokenize", responses=refused)
    async def tokenize(request: Request, body: TokenizeRequest) -> dict[str, Any]:
        """Return the token ids of a text."""
        role, model = _tokenizer(service, request, body.model)
        with request.state.account.held():
            ids = await model.encode(body.prompt, special=body.add_special_tokens)
        return {"count": len(ids), "max_model_len": service.engine.model(role).spec.context, "tokens": ids}

    @app.post("/detokenize", responses=refused)
    async def detokenize(request: Request, body: DetokenizeRequest) -> dict[str, Any]:
        """Return the text of token ids."""
        _, model = _tokenizer(service, request, body.model)
        with request.state.account.held():
            return {"prompt": await model.decode(body.tokens)}

    @app.get("/tokenizer_info", responses=refused)
    async def tokenizer_info(request: Request, model: Literal["intern", "mentor"] = "intern") -> dict[str, Any]:
        """Return the special tokens of a model, as far as they are known."""
        return dict(await _tokenizer(service, request, model)[1].special_tokens())


def _tokenizer(service: Service, request: Request, name: str) -> tuple[Role, Tokenizes]:
    """Return a model's role and its tokenizer. Raises ApiError for one without, or where the server is not ready."""
    request.state.account.check_model(name)
    service.check_ready()
    role: Role = "mentor" if name == "mentor" else "intern"
    model = service.engine.model(role)
    if not isinstance(model, Tokenizes):
        raise ApiError(400, f"the {name} has no tokenizer here", param="model")
    return role, model
