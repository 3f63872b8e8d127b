"""A partial answer is continued by token ids where the server takes and gives them, and else as a chat."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from stub import Reply, Stub, Tokenizer

from tandem.errors import CapabilityError, EndpointError, UsageError
from tandem.ledger import Ledger, Usage
from tandem.models.base import Request
from tandem.models.call import Call
from tandem.models.logprobs import token_stat
from tandem.models.openai import OpenAIModel
from tandem.models.vllm.model import PooledModel
from tandem.models.vllm.routing import ranked
from tandem.spec import Continuation, ModelSpec
from tandem.types import Message, Sampling

SPEC = ModelSpec(name="stub", vocabulary=50_000, continuation=Continuation.NATIVE, token_ids=True)
QUESTION = "Say ten words."
PROMPT = f"<|user|>{QUESTION}<|assistant|>"
WORDS = tuple(f" w{i}" for i in range(10))


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("tandem.models.openai.errors.FIRST_PAUSE", 0.01)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with Stub(Reply(tokens=WORDS), tokenizer=Tokenizer()) as server:
        yield server


def ask(**changes: Any) -> Request:
    fields: dict[str, Any] = {"messages": (Message(role="user", content=QUESTION),), "purpose": "insight"}
    return Request(**(fields | {"max_tokens": 64} | changes))


async def read(stub: Stub, *requests: Request, spec: ModelSpec = SPEC) -> list[Call]:
    """Make calls of one model, one after the other, to their ends."""
    model = OpenAIModel(spec, base_url=stub.url, timeout=1.0)
    calls = []
    try:
        for request in requests:
            async with Call(model, request, "mentor", Ledger()) as made:
                async for _ in made:
                    pass
            calls.append(made)
    finally:
        await model.aclose()
    return calls


# What is sent


async def test_a_prefix_goes_as_the_ids_of_the_template_and_its_own(stub: Stub) -> None:
    assert stub.tokenizer is not None
    request = ask(prefix=" w1 w2", sampling=Sampling(temperature=0.5, top_p=0.9, seed=3, stop=("END",)), top_logprobs=5)
    await read(stub, request)
    assert stub.chats == []
    assert stub.completions[0].body == {
        "model": "stub",
        "prompt": stub.tokenizer.ids(PROMPT + " w1 w2"),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "logprobs": 5,
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["END"],
    }
    asked = [seen.body for seen in stub.seen if seen.path == "/tokenize"]
    messages = [{"role": "user", "content": QUESTION}]
    assert asked == [
        {"model": "stub", "messages": messages, "add_generation_prompt": True, "return_token_strs": True},
        {"model": "stub", "prompt": " w1 w2", "add_special_tokens": False},
    ]


async def test_a_prefix_of_ids_is_sent_as_it_is(stub: Stub) -> None:
    assert stub.tokenizer is not None
    ids = tuple(stub.tokenizer.of(piece) for piece in (" w", "1"))  # the tokenizer itself would make one of them
    (made,) = await read(stub, ask(prefix=ids))
    assert stub.completions[0].body["prompt"] == [*stub.tokenizer.ids(PROMPT), *ids]
    assert made.text == "".join(WORDS)


async def test_without_a_prefix_it_is_a_chat(stub: Stub) -> None:
    await read(stub, ask())
    assert [seen.path for seen in stub.seen] == ["/v1/chat/completions"]
    assert stub.chats[0].body["return_token_ids"] is True


async def test_a_whole_answer_is_not_asked_for_its_ids(stub: Stub) -> None:
    await read(stub, ask(purpose="answer"))
    assert "return_token_ids" not in stub.chats[0].body


async def test_ids_that_end_within_a_character_are_refused(stub: Stub) -> None:
    assert stub.tokenizer is not None
    with pytest.raises(UsageError, match="within a character"):
        await read(stub, ask(prefix=(stub.tokenizer.of(" w1"), stub.tokenizer.of("\N{REPLACEMENT CHARACTER}"))))
    assert stub.completions == []


# What a template does to thinking


async def test_the_chat_way_loses_earlier_thinking_and_the_ids_keep_it(stub: Stub) -> None:
    begun = "<think>Let me see.</think>The answer"
    await read(stub, ask(prefix=begun))
    await read(stub, ask(prefix=begun), spec=SPEC.model_copy(update={"token_ids": False}))
    assert stub.completions[0].prompt == PROMPT + begun
    assert stub.chats[0].prompt == PROMPT + "The answer"


@pytest.mark.parametrize("begun", ["<think>Let me", "Let me"])
async def test_a_thinking_block_that_the_template_opens_is_not_opened_again(begun: str) -> None:
    async with Stub(tokenizer=Tokenizer(opens=True)) as stub:
        await read(stub, ask(prefix=begun))
        assert stub.completions[0].prompt == PROMPT + "<think>\nLet me"


# What comes back


async def test_statistics_are_those_of_the_k_likeliest(stub: Stub) -> None:
    top = tuple((-0.1 * i - 0.1, -3.0, -4.0) for i in range(10))
    stub.default = Reply(tokens=WORDS, top=top)
    (made,) = await read(stub, ask(prefix=" w", top_logprobs=3))
    assert made.stats == [token_stat(t[0], t, 50_000) for t in top]
    assert (made.text, made.tokens, made.finish_reason) == ("".join(WORDS), 10, "stop")


@pytest.mark.parametrize("prefix", [None, " w"])
async def test_ids_count_tokens_and_tell_the_prompts_size(stub: Stub, prefix: str | None) -> None:
    assert stub.tokenizer is not None
    size = len(stub.tokenizer.ids(PROMPT + (prefix or "")))
    stub.default = Reply(tokens=("a", "", "b"), token_delay=0.01, prompt_tokens=size)
    model = OpenAIModel(SPEC, base_url=stub.url)
    async with aclosing(model.stream(ask(prefix=prefix))) as stream:
        deltas = [await anext(stream), await anext(stream)]
    await model.aclose()
    assert [delta.tokens for delta in deltas] == [1, 1]
    assert deltas[0].usage == Usage(prompt=size, completion=1, source="counted")


# Going on


async def test_a_cut_stream_goes_on_by_the_ids_that_came(stub: Stub) -> None:
    assert stub.tokenizer is not None
    odd = ("Hel", "lo", " wor", "ld", "!")  # put together, other tokens
    stub.script(
        Reply(tokens=odd, fault="cut", fault_after=2),
        Reply(tokens=odd[2:], fault="cut", fault_after=1),
        Reply(tokens=odd[3:]),
    )
    (made,) = await read(stub, ask())
    assert (made.text, made.tokens) == ("Hello world!", 5)
    prompt = stub.tokenizer.ids(PROMPT)
    written = [stub.tokenizer.of(piece) for piece in odd]
    assert [s.body["prompt"] for s in stub.completions] == [[*prompt, *written[:2]], [*prompt, *written[:3]]]
    assert [s.body["max_tokens"] for s in stub.completions] == [62, 61]
    assert stub.tokenizer.ids("Hello") != written[:2]


async def test_ids_that_ran_ahead_of_the_text_are_not_gone_on_from(stub: Stub) -> None:
    """Half a character, or what may become a stop string, has ids and no text yet."""
    assert stub.tokenizer is not None
    stub.script(
        Reply(tokens=(" one", "", " two"), pieces=(" one", " tw", "o"), fault="cut", fault_after=2),
        Reply(tokens=(" two",)),
    )
    (made,) = await read(stub, ask())
    assert made.text == " one two"
    assert stub.completions[0].prompt == PROMPT + " one"


async def test_thinking_that_came_apart_goes_on_as_text(stub: Stub) -> None:
    """The server keeps the marks of the block to itself; their ids came, and their text did not."""
    pieces = ("Let", " me", "</think>", "4", "2")
    thinking = ("Let", " me", "")
    stub.script(
        Reply(thinking=thinking, tokens=("4", "2"), pieces=pieces, fault="cut", fault_after=3),
        Reply(tokens=("</think>", "42")),
    )
    (made,) = await read(stub, ask())
    assert made.text == "<think>Let me</think>42"
    assert stub.completions[0].prompt == PROMPT + "<think>Let me"


async def test_an_insight_is_taken_up_by_the_ids_that_its_model_wrote(stub: Stub) -> None:
    assert stub.tokenizer is not None
    odd = ("Go", "al: ", "add", " th", "em")
    stub.script(Reply(tokens=odd, finish="length"), Reply(tokens=("!",), finish="length"), Reply())
    first = ask(prefix="1. ", max_tokens=5)
    await read(stub, first, ask(prefix="1. Goal: add them", max_tokens=1), ask(prefix="1. Goal: add them!"))
    before = stub.tokenizer.ids(PROMPT + "1. ")
    written = [stub.tokenizer.of(piece) for piece in (*odd, "!")]
    assert [s.body["prompt"] for s in stub.completions] == [before, [*before, *written[:5]], [*before, *written]]


async def test_a_replica_goes_on_by_the_ids_that_another_one_gave() -> None:
    tokenizer = Tokenizer()
    rest = Reply(tokens=("lo",))
    async with Stub(rest, tokenizer=tokenizer) as one, Stub(rest, tokenizer=tokenizer) as other:
        home, spare = (one, other) if ranked("a", [one.url, other.url])[0] == one.url else (other, one)
        home.script(Reply(tokens=("Hel", "lo"), fault="cut", fault_after=1))
        model = PooledModel(SPEC, [one.url, other.url], timeout=2.0)
        assert (await model.complete(ask(affinity="a"))).text == "Hello"
        await model.aclose()
        assert spare.completions[0].body["prompt"] == [*tokenizer.ids(PROMPT), tokenizer.of("Hel")]


# A server that does not take ids after all


async def test_a_server_that_lost_its_tokenizer_is_asked_by_chat(stub: Stub) -> None:
    stub.tokenizer = None
    calls = await read(stub, ask(prefix=" w"), ask(prefix=" w"))
    assert [made.text for made in calls] == ["".join(WORDS)] * 2
    assert [s.path for s in stub.seen] == [
        "/tokenize",
        *["/v1/chat/completions"] * 2,
    ]  # found once, for all later calls
    assert stub.chats[0].body["continue_final_message"] is True
    with pytest.raises(CapabilityError, match="not token ids"):
        await read(stub, ask(prefix=(1, 2)), spec=SPEC.model_copy(update={"token_ids": False}))


async def test_one_completion_that_is_refused_is_a_chat(stub: Stub) -> None:
    stub.script(Reply(status=400, error="no such prompt"))
    calls = await read(stub, ask(prefix=" w"), ask(prefix=" w"))
    assert [made.text for made in calls] == ["".join(WORDS)] * 2
    assert (len(stub.completions), len(stub.chats)) == (2, 1)
    stub.script(Reply(status=400, error="no such prompt"))
    with pytest.raises(EndpointError, match="no such prompt"):  # there is no other way for ids
        await read(stub, ask(prefix=(0, 1)))


# Probe


async def found_at(stub: Stub) -> ModelSpec:
    model = OpenAIModel(ModelSpec(name="stub"), base_url=stub.url)
    try:
        return await model.probe()
    finally:
        await model.aclose()


@pytest.mark.parametrize(
    ("tokenizer", "refuses", "token_ids", "continuation"),
    [
        (Tokenizer, (), True, Continuation.NATIVE),
        (Tokenizer, ("continue_final_message",), True, Continuation.NATIVE),  # its template cannot, and ids can
        (Tokenizer, ("prompt",), False, Continuation.NATIVE),
        (lambda: Tokenizer(spaced=True), (), False, Continuation.NATIVE),  # the two parts would not join
        (lambda: None, (), False, Continuation.NATIVE),
        (lambda: None, ("continue_final_message",), False, Continuation.SECTIONS),
    ],
)
async def test_the_probe_finds_out_about_ids(
    tokenizer: Callable[[], Tokenizer | None], refuses: tuple[str, ...], token_ids: bool, continuation: Continuation
) -> None:
    reply = Reply(continuation=(",", " 10"), refuses=refuses)
    async with Stub(reply, tokenizer=tokenizer()) as stub:
        spec = await found_at(stub)
        assert (spec.token_ids, spec.continuation) == (token_ids, continuation)
        asked = len(stub.seen)
        assert (await found_at(stub)) == spec
        assert len(stub.seen) == asked + 1  # the list of models; the rest is remembered


async def test_a_remembered_probe_from_before_ids_is_made_again(stub: Stub, tmp_path: Path) -> None:
    stub.default = Reply(continuation=(",",))
    await found_at(stub)
    (file,) = (tmp_path / "home" / "probes").iterdir()
    old = json.loads(file.read_text())
    del old["token_ids"]
    file.write_text(json.dumps(old))
    assert (await found_at(stub)).token_ids
    assert json.loads(file.read_text())["token_ids"] is True


async def test_a_pool_takes_ids_only_where_all_replicas_do() -> None:
    reply = Reply(continuation=(",",))
    async with Stub(reply, tokenizer=Tokenizer()) as one, Stub(reply) as other:
        model = PooledModel(ModelSpec(name="stub"), [one.url, other.url])
        assert not (await model.probe()).token_ids
        await model.aclose()


# Each model family's own template and tokenizer


@pytest.mark.weights
@pytest.mark.parametrize("family", ["smollm2", "demo_intern"])
def test_the_ids_read_as_the_chat_that_the_template_continues(family: str, request: pytest.FixtureRequest) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(request.getfixturevalue(family))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many are left?"}]
    template = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    for begun in (
        "Goal: find the total.\n\nPlanning: add",
        "def f(x):\n    return",
        "1, 2, 3",
        "a naïve \U0001f30d, 12",
        "**Goal:**",
    ):
        ids = [token for text in (template, begun) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
        partial = [*messages, {"role": "assistant", "content": begun}]
        continued = tokenizer.apply_chat_template(partial, continue_final_message=True, tokenize=False)
        assert tokenizer.decode(ids) == continued


@pytest.mark.parametrize("opens", [True, False])
async def test_a_thought_that_the_template_opened_has_its_tag_and_goes_on_by_its_ids(opens: bool) -> None:
    said = Reply(tokens=(" so", " it", "</think>", " 7"))
    async with Stub(said, tokenizer=Tokenizer(opens=opens)) as stub:
        model = OpenAIModel(ModelSpec(name="stub"), base_url=stub.url)
        spec = await model.probe()
        assert spec.token_ids and spec.opens_thinking is opens and spec.thinks is opens
        head = await Call(model, ask(max_tokens=2), "intern", Ledger()).complete()
        assert head.text == ("<think> so it" if opens else " so it")
        rest = await Call(model, ask(prefix=head.text), "intern", Ledger()).complete()
        assert not rest.text.startswith("<think>")
        assert stub.completions[-1].prompt == PROMPT + ("<think>\n so it" if opens else " so it")
        assert (
            "<think>" not in PROMPT
            and model.spec.model_dump()
            == ModelSpec(name="stub", continuation=Continuation.NATIVE, logprobs=model.spec.logprobs).model_dump()
        )
        await model.aclose()
