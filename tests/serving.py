"""A server in this process for tests: real HTTP on loopback, models that follow a script, and a way to hold them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from tandem import Tandem
from tandem.ledger import Ledger
from tandem.models.base import Delta, Model, Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.paths import shipped
from tandem.server.app import create_app
from tandem.server.gate import Gate
from tandem.server.keys import KeyRing
from tandem.server.requests import ModelMenu
from tandem.server.running import listen
from tandem.server.service import Service

QUESTION = "What is 17*23?"
INSIGHT = (  # 23 tokens behind its first heading
    "Goal: find the product .\nPlanning: split the second number and add .\n"
    "Retrieval: 17*20 and 17*3 .\nAction: add 340 and 51 ."
)
ANSWER = "first I split , then I add , so it is \\boxed{391}"
BY_MENTOR = "the mentor says \\boxed{391}"
LADDER = "none,low=5,medium=12,high=30"


def mentor(**fields: Any) -> FakeModel:
    """Return a mentor that writes INSIGHT, or BY_MENTOR as an answer of its own."""
    rules = (Rule(text=INSIGHT, purpose="insight"), Rule(text=BY_MENTOR))
    return FakeModel(Script(rules=rules, **fields), name="fake-mentor")


def intern(text: str = ANSWER, **fields: Any) -> FakeModel:
    """Return an intern that answers with `text`, whatever is asked."""
    return FakeModel(Script(rules=(Rule(text=text),), **fields), name="fake-intern")


class Held(FakeModel):
    """Writes so many tokens, sets `reached`, and goes on only when it is `let_go`."""

    def __init__(self, text: str, after: int = 1, *, name: str = "fake-intern") -> None:
        super().__init__(Script(rules=(Rule(text=text),)), name=name)
        self.reached = threading.Event()
        self._after, self._open = after, False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Event] = set()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self._loop = asyncio.get_running_loop()
        async with aclosing(super().stream(request)) as deltas:
            written = 0
            async for delta in deltas:
                if written == self._after and not self._open:
                    self._waiting.add(event := asyncio.Event())
                    self.reached.set()
                    await event.wait()
                written += 1
                yield delta

    def let_go(self) -> None:
        """Let every request go on, and the next ones pass."""
        self._open = True
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: [event.set() for event in self._waiting])


def classifier(folder: Path, **thresholds: float) -> str:
    """Write a classifier of the fake pair with these thresholds: 0 is always enough, 2 never is."""
    source = next(shipped("classifiers").iterdir())
    folder.mkdir()
    (folder / "classifier.skops").write_bytes((source / "classifier.skops").read_bytes())
    card = json.loads((source / "card.json").read_text()) | {
        "id": folder.name,
        "mentor": "fake-mentor",
        "intern": "fake-intern",
        "ladder": LADDER,
        "collected_ladder": LADDER + ",answer",
        "draft_tokens": 4,
        "policy": {"thresholds": thresholds, "price": 0.0, "gains": {}, "stop_shares": {}},
        **{"models": {}, "points": {}},
    }
    (folder / "card.json").write_text(json.dumps(card))
    return str(folder)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds that no event tells of."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@dataclass
class Server:
    """A server that runs, and what is behind it."""

    url: str
    service: Service
    mentor: Model
    intern: Model
    key: str = "none"
    ledgers: list[Ledger] = field(default_factory=list)  # what each request was charged

    def http(self, **options: Any) -> httpx.Client:
        """Return a client with this server's key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False, verify=False, **options)

    def openai(self, **options: Any) -> OpenAI:
        """Return the official client, which asks once."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, **options)

    def post(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> httpx.Response:
        """Post a body as JSON."""
        with self.http() as client:
            return client.post(path, json=body)

    def ask(self, model: str = "tandem", **fields: Any) -> dict[str, Any]:
        """Ask a question, and return the whole answer."""
        response = self.post(chat(model, **fields))
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def idle(self) -> None:
        """Wait until requests are over on this side too: a stream's reader has its end a little earlier."""
        until(lambda: self.service.gate.running == 0)

    def metrics(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        with self.http() as client:
            families = list(text_string_to_metric_families(client.get("/metrics").text))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())


def chat(model: str = "tandem", content: Any = QUESTION, **fields: Any) -> dict[str, Any]:
    """Return the body of a chat with one message."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


def events(response: httpx.Response) -> list[Any]:
    """Return what a streamed response has sent: its chunks, and at last the text [DONE] where that came."""
    response.read()
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def error_of(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """Return the error of a response, which must be in OpenAI's shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"] and "Traceback" not in body["error"]["message"]
    found: dict[str, Any] = body["error"]
    return found


class _PromptServer(uvicorn.Server):
    """Looks every hundredth of a second at whether it is to end: hundreds of tests start and end one."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextmanager
def serving(
    first: Model | None = None,
    second: Model | None = None,
    *,
    keys: Path | None = None,
    key: str = "none",
    aims: dict[str, str] | None = None,
    concurrency: int = 16,
    queue: int = 16,
    deadline: float | None = None,
    keep_alive: float = 10.0,
    max_body: int = 4 << 20,
    http: str = "auto",
    ready: bool = True,
    **options: Any,
) -> Iterator[Server]:
    """Run a server with a mentor and an intern; `options` are those of `Tandem`."""
    engine = Tandem(first or mentor(), second or intern(), **{"effort": LADDER, "pace": "thrifty", **options})
    service = Service(
        ModelMenu(engine, aims), KeyRing(keys), Gate(concurrency, queue), deadline=deadline, keep_alive=keep_alive
    )
    listening = listen("127.0.0.1", 0)
    server = Server(f"http://127.0.0.1:{listening.getsockname()[1]}", service, engine.mentor, engine.intern, key=key)
    spent = service.metrics.spent
    service.metrics.spent = lambda ledger: (server.ledgers.append(ledger), spent(ledger))[1]  # type: ignore[method-assign]
    config = uvicorn.Config(
        create_app(service, max_body=max_body, private=keys is None),
        http=http,  # type: ignore[arg-type]
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    running = _PromptServer(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[listening])))
    thread.start()
    try:
        until(lambda: running.started and (service.ready or not ready), 180)  # the first one imports scikit-learn
        yield server
    finally:
        running.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
