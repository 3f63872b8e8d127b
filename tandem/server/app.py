"""The application: routes, authentication, and handling of disconnected clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tandem import __version__
from tandem.ladder import Effort
from tandem.server import answers, errors, tokenizer
from tandem.server.errors import ApiError
from tandem.server.fields import ignored_header
from tandem.server.files import install_page
from tandem.server.formats import CHAT, RAW, TEXT, AnswerFormat
from tandem.server.guard import Guard
from tandem.server.keys import Account
from tandem.server.requests import Prompt
from tandem.server.responses.body import ResponsesRequest
from tandem.server.responses.output import ResponsesFormat
from tandem.server.schema import ChatRequest, CompletionRequest
from tandem.server.service import Service
from tandem.server.streamed import StreamedAnswer

T = TypeVar("T")
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for status, text in {
        400: "The body is invalid; `param` names the field",
        401: "No key, or an unknown one",
        404: "No such model",
        413: "The body is too large",
        429: "Too many requests, too many waiting, or a spent budget",
        500: "An internal error",
        502: "A model behind this server failed",
        503: "The server is starting, shutting down, or a model behind it is down",
        504: "The deadline was exceeded",
    }.items()
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, or with `stream` its chunks", "content": {"text/event-stream": {}}},
    **_ERRORS,
}


def create_app(service: Service, *, max_body: int = 4 << 20, private: bool = False) -> FastAPI:
    """Return the application over a service; `max_body` is in bytes, `private` as in Guard."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None, None]:
        service.keys.recover()
        tasks = [asyncio.create_task(_prepare(service)), asyncio.create_task(service.keys.watch())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.engine.aclose()
            service.keys.close()

    app = FastAPI(title="Tandem", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, service=service, most=max_body, private=private)
    errors.install(app)
    install_page(app)
    _health(app, service)
    _about(app, service)

    @app.post("/v1/chat/completions", responses=_ANSWERS)
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        """Answer a conversation as OpenAI does; `tandem` has this server's own fields."""
        return await _respond(service, request, body, [None], CHAT)

    @app.post("/v1/completions", responses=_ANSWERS)
    async def text_completions(request: Request, body: CompletionRequest) -> Response:
        """Answer one text or several, as OpenAI's older endpoint does."""
        return await _respond(service, request, body, body.prompt, RAW if body.raw else TEXT)

    @app.post("/v1/responses", responses=_ANSWERS)
    async def responses(request: Request, body: ResponsesRequest) -> Response:
        """Answer as OpenAI's Responses API does; nothing is stored."""
        with body.naming():
            return await _respond(service, request, body.chat(), [None], ResponsesFormat(body))

    @app.api_route("/v1/responses/{stored:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
    async def stored_response(stored: str) -> None:
        raise ApiError(404, f"there is no response '{stored[:80]}': nothing is stored here", code="response_not_found")

    tokenizer.install(app, service, _ERRORS)
    _describe(app)
    return app


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"description": "Not ready"}})
    async def readyz() -> JSONResponse:
        """Report whether requests can be answered."""
        if service.gate.draining:
            return JSONResponse({"status": "draining"}, 503)
        if service.ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "failed" if service.failure else "starting", "reason": service.failure}, 503)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Tell Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _about(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", responses={401: _ERRORS[401]})
    async def models(request: Request) -> dict[str, Any]:
        """List the models that the key may ask for: every strategy is one."""
        names = [name for name in service.menu.names if request.state.account.entry.allows(name)]
        return {"object": "list", "data": [service.menu.describe(name) for name in names]}

    @app.get("/v1/models/{model:path}", responses={401: _ERRORS[401], 404: _ERRORS[404]})
    async def one_model(request: Request, model: str) -> dict[str, Any]:
        request.state.account.check_model(model)
        return service.menu.describe(model)

    @app.get("/v1/tandem", responses={401: _ERRORS[401]})
    async def about() -> dict[str, Any]:
        """Describe the pair, its ladder and its classifier."""
        plan = service.engine.plan()
        points = plan.points if plan.card else None
        # By kind, and by ``all``, which a decision names whose point is that of no kind alone.
        ladders = {
            name: [_level(level) for level in own.ladder]
            for kind, own in plan.kinds.items()
            for name in (kind, own.chosen_on)
        }
        return {
            "mentor": {"name": plan.mentor.spec.name},
            "intern": {"name": plan.intern.spec.name},
            "strategy": plan.strategy_name,
            "ladder": [_level(level) for level in plan.ladder],
            "ladders": ladders,
            "classifier": plan.classifier_match,
            "units": list(points.units) if points else [],
            "aims": list(dict.fromkeys([*service.menu.aims, *(points.aims if points else ())])),
            "version": __version__,
            "synthetic": plan.mentor.spec.synthetic or plan.intern.spec.synthetic,
        }


def _level(level: Effort) -> dict[str, Any]:
    return {"name": level.name, "tokens": level.tokens}


async def _prepare(service: Service) -> None:
    """Connect the models, retrying until they are up: the server may start before them."""
    pause = 1.0
    while True:
        try:
            await service.prepare()
            return
        except Exception:  # also a bug of ours: it is in `failure` and in the log
            await asyncio.sleep(pause)
            pause = min(2 * pause, 30.0)


async def _respond(
    service: Service,
    request: Request,
    body: ChatRequest | CompletionRequest,
    prompts: Sequence[Prompt | None],
    form: AnswerFormat,
) -> Response:
    """Admit a request and answer it; both models are stopped when its client disconnects.

    `prompts` are those of a completion request.
    """
    request.state.model = service.menu.label(body.model)
    account: Account = request.state.account
    account.check_model(body.model)
    service.enter(account, len(prompts) * (body.n or 1))
    stack = AsyncExitStack()

    async def respond() -> Response:
        asked = await service.read(body, prompts, len(await request.body()))
        named = ignored_header(body.ignored)
        bill = await stack.enter_async_context(service.admit(account, asked))
        if body.stream:
            source = answers.stream(service, body, asked, bill, form)
            return StreamedAnswer(source, stack.pop_all(), request, bill, named, service.keep_alive)
        return JSONResponse(await answers.answer(service, body, asked, bill, form), headers=named)

    try:
        stack.enter_context(account.held())
        return await _unless_gone(request, respond())
    except _Gone:
        return Response(status_code=499)  # never read
    finally:
        await stack.aclose()


class _Gone(Exception):
    """The client has closed the connection."""


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work; cancels it and raises _Gone if the client disconnects first."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise _Gone
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _describe(app: FastAPI) -> None:
    """Add our error format to the schema, and remove FastAPI's default one."""
    text: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    fields = {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text}
    error = {"type": "object", "required": list(fields), "properties": fields}
    original = app.openapi

    def openapi() -> dict[str, Any]:
        found = original()
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas["Error"] = {"type": "object", "required": ["error"], "properties": {"error": error}}
        for path in found["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return found

    app.openapi = openapi  # type: ignore[method-assign]
