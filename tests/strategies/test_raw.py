"""A raw prompt: what one model reads and writes as it stands, and what is charged for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tandem import Tandem
from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.ledger import Ledger
from tandem.models.base import Reading
from tandem.models.fake import FakeModel, Rule, Script
from tandem.types import AnswerDelta, Message, Problem, RawPrompt, Solution

TEXT = "<think> the sky is"


def problem(raw: RawPrompt, logprobs: int | None = None) -> Problem:
    return Problem(id="raw", messages=(Message(role="user", content=""),), raw=raw, logprobs=logprobs)


def model(**fields: object) -> FakeModel:
    return FakeModel(Script.model_validate({"rules": [Rule(text=" blue and </think> wide")], **fields}))


async def solved(intern: FakeModel, asked: Problem, **settings: int) -> tuple[Solution, list[AnswerDelta]]:
    tandem = Tandem(FakeModel(), intern, strategy="intern-only", intern_max_tokens=settings.get("cap", 9))
    events = [event async for event in tandem.astream(asked)]
    assert isinstance(events[-1], Solution)
    deltas = [event for event in events if isinstance(event, AnswerDelta)]
    assert "".join(delta.text for delta in deltas) == events[-1].text and len(deltas) == len(events) - 1
    return events[-1], deltas


async def test_a_text_is_completed_as_it_stands() -> None:
    intern = model()
    solution, _ = await solved(intern, problem(RawPrompt(text=TEXT)))
    assert solution.text == " blue and </think> wide" and solution.tokens is None and not solution.truncated
    (request,) = intern.calls
    assert request.raw == TEXT
    (entry,) = solution.ledger
    assert (entry.usage.prompt, entry.usage.completion) == (4, 4)


@pytest.mark.parametrize("by_ids", [False, True])
async def test_a_prompt_is_read_with_each_token_and_the_next_one_in_one_pass(by_ids: bool) -> None:
    intern = model()
    text = tuple(await intern.encode(TEXT, special=False)) if by_ids else TEXT
    solution, deltas = await solved(intern, problem(RawPrompt(text=text, echo=True), 2), cap=1)
    assert solution.text == TEXT + " blue" and solution.truncated and intern.calls == []
    assert solution.tokens and [token.text for token in solution.tokens] == ["<think>", " the", " sky", " is", " blue"]
    assert solution.tokens[0].logprob is None and all(token.logprob for token in solution.tokens[1:])
    assert {len(token.top) for token in solution.tokens[1:]} == {2} and solution.tokens[0].top == ()
    assert [token for delta in deltas for token in delta.tokens] == list(solution.tokens)
    (entry,) = solution.ledger
    assert (entry.purpose, entry.usage.prompt, entry.usage.completion) == ("answer", 4, 1)


async def test_more_tokens_cost_a_second_pass() -> None:
    intern = model()
    solution, _ = await solved(intern, problem(RawPrompt(text=TEXT, echo=True), 0))
    assert solution.text == TEXT + " blue and </think> wide" and not solution.truncated
    assert solution.tokens and [token.text for token in solution.tokens[4:]] == [
        *[" blue", " and", " </think>", " wide"],
        "<end>",
    ]
    assert [(entry.usage.prompt, entry.usage.completion) for entry in solution.ledger] == [(4, 1), (4, 4)]


async def test_nothing_need_be_written() -> None:
    solution, _ = await solved(model(), problem(RawPrompt(text=TEXT, echo=True, write=False), 1))
    assert solution.text == TEXT and solution.tokens and len(solution.tokens) == 4 and solution.truncated


async def test_the_token_that_ends_a_text_has_no_text() -> None:
    intern = FakeModel(Script(rules=(Rule(text=""),)))
    solution, _ = await solved(intern, problem(RawPrompt(text="a b", echo=True), 1), cap=1)
    assert solution.text == "a b" and not solution.truncated
    assert solution.tokens and len(solution.tokens) == 3 and solution.tokens[-1].logprob


async def test_ids_are_echoed_as_text_without_being_read() -> None:
    intern = model()
    ids = tuple(await intern.encode(TEXT, special=False))
    solution, _ = await solved(intern, problem(RawPrompt(text=ids, echo=True)))
    assert solution.text == TEXT + " blue and </think> wide" and len(solution.ledger.entries) == 1


async def test_a_failed_or_broken_reading_is_in_the_ledger() -> None:
    class Failing(FakeModel):
        async def read(
            self,
            text: str | Sequence[int],
            *,
            top_logprobs: int = 20,
            max_tokens: int | None = None,
            alternatives: int | None = None,
        ) -> Reading:
            if text == "wait":
                reached.set()
                await asyncio.Event().wait()
            raise EndpointError("it broke")

    reached = asyncio.Event()
    tandem = Tandem(FakeModel(), Failing(), strategy="intern-only")
    failed, broken = Ledger(), Ledger()
    with pytest.raises(EndpointError, match="it broke"):
        async for _ in tandem.astream(problem(RawPrompt(text="one two", echo=True), 1), ledger=failed):
            pass
    (entry,) = failed
    assert entry.error == "it broke" and entry.usage.source == "bound" and entry.usage.worst_prompt == 9

    async def read() -> None:
        async for _ in tandem.astream(problem(RawPrompt(text="wait", echo=True), 1), ledger=broken):
            pass

    task = asyncio.create_task(read())
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (entry,) = broken
    assert entry.error == "broken off" and entry.usage.worst_prompt == 6


async def test_who_cannot_says_so() -> None:
    with pytest.raises(UsageError, match="strategy 'tandem' takes no raw prompt"):
        await Tandem(FakeModel(), FakeModel()).asolve(problem(RawPrompt(text="x")))
    mute = model(logprobs=False)
    with pytest.raises(CapabilityError, match="no log-probabilities of a prompt"):
        await solved(mute, problem(RawPrompt(text="x y", echo=True), 1))
