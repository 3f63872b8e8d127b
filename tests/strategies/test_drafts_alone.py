"""The draft of a thinking intern is a request of its own where its server goes on from token ids: only that has
log-probabilities, and what follows is the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_classifier import ScriptedClassifier
from stub import Reply, Stub, Tokenizer

from tandem.config import Settings
from tandem.ladder import parse_ladder
from tandem.models.fake import FakeModel
from tandem.models.openai import OpenAIModel
from tandem.spec import ModelSpec
from tandem.strategies import Context, make_strategy
from tandem.strategies.thoughts import apart
from tandem.sufficiency.policy import Policy, PolicyCard
from tandem.types import AnswerDelta, Event, Problem, Solution, ThinkingDelta

PROBLEM = Problem.from_text("What is 17*23?", id="p1")
THOUGHT = tuple(f" t{k}" for k in range(20))
ANSWER = ("</think>", "\n", "It", " is", " \\boxed{", "391", "}")
DRAFT = 6


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))


def respond(body: dict[str, Any], written: tuple[str, ...], tokenizer: Tokenizer) -> Reply:
    """Go on with what a prompt of token ids has of the text; a chat begins it."""
    reply = Reply(tokens=written)
    if "prompt" not in body:
        return reply
    behind = tokenizer.text(body["prompt"]).rpartition("<|assistant|>")[2].removeprefix("<think>\n")
    done = 0
    while behind and done < len(written) and behind.startswith(written[done]):
        behind, done = behind.removeprefix(written[done]), done + 1
    return replace(reply, tokens=written[done:] or (" x",))


async def solve(
    stub: Stub,
    by_level: Mapping[str, float],
    *,
    thinks: bool = True,
    cap: int = 4096,
    **wishes: Any,
) -> tuple[list[Event], Solution]:
    intern = OpenAIModel(ModelSpec(name="stub", vocabulary=50_000, thinks=thinks), base_url=stub.url)
    try:
        await intern.probe()
        stub.seen.clear()
        policy = Policy(ScriptedClassifier(by_level), PolicyCard(thresholds=dict.fromkeys(by_level, 0.5)))
        own = Settings(pace="thrifty", intern_max_tokens=cap, **wishes)
        ladder = parse_ladder("none,low=5")
        ctx = Context(PROBLEM, "tandem", FakeModel(), intern, own, ladder, policy, DRAFT)
        events = [event async for event in apart(make_strategy("tandem").run(ctx), ctx)]
    finally:
        await intern.aclose()
    assert isinstance(events[-1], Solution)
    return events, events[-1]


def server(*, opens: bool, written: tuple[str, ...] = (*THOUGHT, *ANSWER)) -> Stub:
    tokenizer = Tokenizer(opens=opens)
    text = written if opens else ("<think>", *written)
    return Stub(respond=lambda body: respond(body, text, tokenizer), tokenizer=tokenizer)


@pytest.mark.parametrize("opens", [True, False])
async def test_only_the_draft_has_log_probabilities(opens: bool) -> None:
    async with server(opens=opens) as stub:
        events, solution = await solve(stub, {"none": 0.9, "low": 0.9})
        (draft,), (rest,) = stub.chats, stub.completions
    assert draft.body["logprobs"] and draft.body["max_tokens"] == DRAFT and draft.finished
    assert rest.body.get("logprobs") is None and rest.body["max_tokens"] == 4096 - DRAFT
    begun = "<think>\n" if opens else "<think>"
    assert rest.prompt.endswith(begun + "".join(THOUGHT[: DRAFT if opens else DRAFT - 1]))
    assert solution.text == "<think>" + "".join((*THOUGHT, *ANSWER)) and solution.answer == "391"
    assert "".join(e.text for e in events if isinstance(e, ThinkingDelta)) == "".join(THOUGHT).lstrip()
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == "It is \\boxed{391}"
    entries = solution.ledger.select("intern")
    assert [entry.purpose for entry in entries] == ["answer", "answer"] and solution.ledger.probe_tokens == 0
    assert sum(entry.usage.completion for entry in entries) == len(THOUGHT) + len(ANSWER) + (not opens)


async def test_a_draft_that_a_reasoning_parser_sends_apart_goes_on_within_its_thought() -> None:
    tokenizer = Tokenizer(opens=True)

    def parsed(body: dict[str, Any]) -> Reply:
        reply = respond(body, (*THOUGHT, *ANSWER), tokenizer)
        if body.get("continue_final_message"):  # the probe
            return Reply(tokens=(", 10",))
        return (
            reply
            if "prompt" in body
            else Reply(thinking=THOUGHT[:DRAFT], thinking_logprobs=True, tokens=(), finish="length")
        )

    async with Stub(respond=parsed, tokenizer=tokenizer) as stub:
        events, solution = await solve(stub, {"none": 0.9, "low": 0.9})
        (rest,) = stub.completions
    assert rest.prompt.endswith("<think>\n" + "".join(THOUGHT[:DRAFT])) and rest.body.get("logprobs") is None
    assert solution.text == "<think>" + "".join((*THOUGHT, *ANSWER)) and solution.answer == "391"
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == "It is \\boxed{391}"


async def test_a_draft_that_does_not_suffice_is_all_that_was_written() -> None:
    async with server(opens=True) as stub:
        _, solution = await solve(stub, {"none": 0.1, "low": 0.9})
        assert [seen.body["max_tokens"] for seen in stub.chats] == [DRAFT, DRAFT] and len(stub.completions) == 1
    assert solution.ledger.probe_tokens == DRAFT and solution.level == "low"
    drafts, rest = solution.ledger.select("intern")[:2], solution.ledger.select("intern")[2]
    assert [entry.purpose for entry in drafts] == ["probe", "answer"]
    assert drafts[1].read_tokens == 5 and rest.read_tokens == 0  # the published formula reads the insight once


async def test_an_answer_within_the_draft_is_asked_for_once() -> None:
    async with server(opens=True, written=(" t", "</think>", " 391")) as stub:
        _, solution = await solve(stub, {"none": 0.9, "low": 0.9})
        assert len(stub.chats) == 1 and not stub.completions
    assert solution.answer == "391" and not solution.truncated
    assert solution.trace[0].signals["ended"] == 1.0


@pytest.mark.parametrize("wishes", [{"thinks": False}, {"intern_logprobs": True}, {"cap": DRAFT}])
async def test_one_request_where_the_rest_is_short_or_shared(wishes: dict[str, Any]) -> None:
    async with server(opens=True) as stub:
        stub.tokenizer.opens = wishes.get("thinks", True)  # type: ignore[union-attr]
        _, solution = await solve(stub, {"none": 0.9, "low": 0.9}, **wishes)
        assert len(stub.chats) == 1 and not stub.completions
    assert solution.truncated == ("cap" in wishes)


async def test_the_signals_are_those_of_one_request() -> None:
    seen = []
    for wishes in ({}, {"intern_logprobs": True}):
        async with server(opens=True) as stub:
            _, solution = await solve(stub, {"none": 0.9, "low": 0.9}, **wishes)
        seen.append((solution.trace, solution.text, solution.answer))
    assert seen[0] == seen[1]


async def test_a_cut_answer_says_so() -> None:
    async with server(opens=True) as stub:
        _, solution = await solve(stub, {"none": 0.9, "low": 0.9}, cap=DRAFT + 4)
        assert stub.completions[0].body["max_tokens"] == 4
    assert (
        solution.truncated and solution.answer is None and solution.thinking == "".join(THOUGHT[: DRAFT + 4]).lstrip()
    )
