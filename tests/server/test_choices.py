"""Several choices: solved side by side as far as slots are free, whole and streamed; what fails is one error, paid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from serving import ANSWER, Held, Server, chat, error_of, events, until

from tandem.models.base import Delta, Request
from tandem.models.fake import FakeModel, Rule, Script

Start = Callable[..., Server]


class Together(FakeModel):
    """Writes its first word only when so many requests are there at once."""

    def __init__(self, text: str, together: int) -> None:
        super().__init__(Script(rules=(Rule(text=text),)), name="fake-intern")
        self.most = self.now = 0
        self._together = together

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            while self.most < self._together:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            async for delta in super().stream(request):
                await asyncio.sleep(0)
                yield delta
        finally:
            self.now -= 1


def test_choices_are_written_at_once_and_streamed_side_by_side(start: Start) -> None:
    server = start(None, Together(ANSWER, 4))
    assert [c["message"]["content"] for c in server.ask("intern", n=4)["choices"]] == [ANSWER] * 4
    chunks = events(server.post(chat("intern", n=4, stream=True, stream_options={"include_usage": True})))
    choices = [chunk["choices"][0] for chunk in chunks[:-2]]
    for index in range(4):
        own = [choice for choice in choices if choice["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""} and own[-1]["finish_reason"] == "stop"
        assert "".join(choice["delta"].get("content", "") for choice in own) == ANSWER
    assert choices != sorted(choices, key=lambda choice: choice["index"]), "one choice after the other"
    assert chunks[-2]["usage"]["completion_tokens"] == 4 * len(ANSWER.split()) and chunks[-1] == "[DONE]"


def test_no_more_are_written_at_once_than_there_are_slots(start: Start) -> None:
    for slots in (1, 2):
        model = Together(ANSWER, slots)
        server = start(None, model, concurrency=slots, queue=0)
        assert len(server.ask("intern", n=5)["choices"]) == 5
        assert model.most == slots
        server.idle()
        assert len(server.ask("intern", n=2)["choices"]) == 2, "the slots were given back"


def test_with_one_slot_the_choices_follow_one_another(start: Start) -> None:
    model = Held(ANSWER)
    server = start(None, model, concurrency=1, queue=4)
    with server.openai() as client:
        asked: Any = {"model": "intern", "messages": [{"role": "user", "content": "x"}]}
        stream = client.chat.completions.create(**asked, n=3, stream=True)
        until(model.reached.is_set)
        assert server.service.gate.running == 1 and server.service.gate.waiting == 0
        model.let_go()
        assert sum(chunk.choices[0].finish_reason == "stop" for chunk in stream) == 3


def test_one_choice_that_fails_is_the_requests_error_and_all_is_charged(start: Start, prices: Path) -> None:
    model = Together("", 3)
    server = start(None, model, prices=prices)

    def broken(request: Request) -> str:
        if request.sampling.seed == 8:
            raise RuntimeError("broken")
        return ANSWER

    model.answer = broken
    fields: dict[str, Any] = {"n": 3, "temperature": 0.5, "seed": 7}
    assert error_of(server.post(chat("intern", **fields)), 500)["type"] == "server_error"
    model.most = 0
    chunks = events(server.post(chat("intern", **fields, stream=True)))
    assert chunks[-1]["error"]["type"] == "server_error" and "[DONE]" not in chunks
    server.idle()
    assert len(server.ledgers) == 2 and all(len(ledger.entries) >= 1 for ledger in server.ledgers)
    assert model.now == 0, "the others were ended"


@pytest.mark.parametrize("n", [2, 8])
def test_usage_counts_all_choices_and_the_prompt_once(start: Start, n: int) -> None:
    server = start()
    alone, several = server.ask("intern")["usage"], server.ask("intern", n=n)["usage"]
    assert several["prompt_tokens"] == alone["prompt_tokens"]
    assert several["completion_tokens"] == n * alone["completion_tokens"]
