from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tandem.errors import EndpointError, UsageError
from tandem.models.base import Delta, Model, Request
from tandem.models.logprobs import token_stat
from tandem.models.transformers import TransformersModel
from tandem.spec import Architecture, Continuation, ModelSpec
from tandem.types import Message, Sampling

weights = pytest.mark.weights

SPEC = ModelSpec(name="smollm2-135m")
STORY = "Write a long story about a cat and the sea."
QUESTIONS = [
    STORY,
    "What is 2+2?",
    "Repeat 🎉 many times.",
    "Explain gravity to a child. " * 12,
    "Name three rivers in Europe.",
    "def fibonacci(n):",
    "Say hello in French, German and Chinese.",
    "List the first ten prime numbers and say why each of them is prime.",
]


def ask(text: str = STORY, tokens: int = 24, **options: Any) -> Request:
    return Request(messages=(Message(role="user", content=text),), purpose="answer", max_tokens=tokens, **options)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (the batch belongs to a thread, which sets no event)
            await asyncio.sleep(0.01)


async def read(stream: AsyncGenerator[Delta, None], count: int) -> str:
    """Read `count` deltas of a stream and leave it open."""
    return "".join([(await anext(stream)).text for _ in range(count)])


def without_template(source: Path, folder: Path) -> None:
    for file in source.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[TransformersModel]:
    """One model for the module: float32, so that a batch's answers can be compared token by token."""
    model = TransformersModel(SPEC, smollm2, device="cpu", dtype="float32")
    yield model
    asyncio.run(model.aclose())


@pytest.fixture(scope="module")
def plain(smollm2: Path) -> tuple[Any, Any]:
    """Transformers' own model and tokenizer, to compare with."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    return loaded, AutoTokenizer.from_pretrained(smollm2)


def generate(plain: tuple[Any, Any], text: str, tokens: int) -> tuple[list[int], list[int]]:
    """Return the prompt's ids and the greedy answer's, as `generate` writes it."""
    loaded, tokenizer = plain
    chat = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    start, mask = prompt["input_ids"], prompt["attention_mask"]
    ids = loaded.generate(start, attention_mask=mask, max_new_tokens=tokens, do_sample=False)[0].tolist()
    length = start.shape[1]
    return ids[:length], ids[length:]


# --- what is written ---------------------------------------------------------------------------------------------


@weights
@pytest.mark.parametrize("question", QUESTIONS[:4])
async def test_greedy_answers_are_those_of_generate(
    model: TransformersModel, plain: tuple[Any, Any], question: str
) -> None:
    prompt, answer = generate(plain, question, 24)
    ours = await model.complete(ask(question))
    # Where the cap cuts a character in two, `generate` shows the half as U+FFFD and we leave it out.
    assert ours.text == plain[1].decode(answer, skip_special_tokens=True).rstrip("\ufffd")
    assert (ours.tokens, ours.usage.prompt, ours.usage.completion) == (len(answer), len(prompt), len(answer))
    assert ours.finish_reason == ("length" if len(answer) == 24 else "stop")


@weights
async def test_answers_do_not_depend_on_the_company(model: TransformersModel) -> None:
    requests = [ask(question, tokens) for question, tokens in zip(QUESTIONS, range(4, 36, 4), strict=True)]
    alone = [await model.complete(request) for request in requests]
    together = await asyncio.gather(*(model.complete(request) for request in requests))
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.usage for a in together] == [a.usage for a in alone]
    assert model.running == 0


@weights
async def test_a_request_joins_while_others_are_being_written(model: TransformersModel) -> None:
    alone = [(await model.complete(ask(question, 20))).text for question in (STORY, QUESTIONS[3])]
    async with aclosing(model.stream(ask(STORY, 20))) as early:
        begun = await read(early, 8)
        late = asyncio.create_task(model.complete(ask(QUESTIONS[3], 20)))
        rest = await read(early, 12)
        assert [begun + rest, (await late).text] == alone


@weights
async def test_prompts_longer_than_a_portion_are_read_in_several(
    model: TransformersModel, plain: tuple[Any, Any]
) -> None:
    question = "One, two, three, four. " * 110
    prompt, answer = generate(plain, question, 8)
    assert len(prompt) > 512
    both = await asyncio.gather(model.complete(ask(question, 8)), model.complete(ask(STORY, 8)))
    assert both[0].text == plain[1].decode(answer, skip_special_tokens=True)


@weights
async def test_sliding_windows_and_grouped_queries_in_a_padded_batch(smollm2: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=16,
        max_window_layers=1,
        initializer_range=0.5,
        eos_token_id=2,
    )
    tiny = Qwen2ForCausalLM(config).eval()
    assert set(config.layer_types) == {"full_attention", "sliding_attention"}
    tiny.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.save_pretrained(tmp_path)
    ours = TransformersModel(ModelSpec(name="tiny"), tmp_path, device="cpu", dtype="float32")
    answers = await asyncio.gather(*(ours.complete(ask(question, 30)) for question in QUESTIONS))
    await ours.aclose()
    for question, answer in zip(QUESTIONS, answers, strict=True):
        _, ids = generate((tiny, tokenizer), question, 30)
        assert answer.text == tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")


@weights
async def test_deltas_are_whole_characters_and_count_every_token(model: TransformersModel) -> None:
    deltas = [delta async for delta in model.stream(ask("Repeat 🎉 many times.", 30, top_logprobs=5))]
    assert "🎉" in "".join(delta.text for delta in deltas)
    assert not any("\ufffd" in delta.text for delta in deltas)
    assert any(delta.tokens == 1 and not delta.text for delta in deltas)
    assert all(delta.tokens == len(delta.stats) == 1 for delta in deltas)
    assert deltas[0].usage is not None and deltas[-1].usage is not None
    assert deltas[0].usage.prompt == deltas[-1].usage.prompt > 0
    assert deltas[-1].usage.completion == len(deltas)


@weights
async def test_a_stop_string_ends_the_answer_before_it(model: TransformersModel) -> None:
    whole = (await model.complete(ask())).text
    word = whole.split()[5]
    stopped = await model.complete(ask(sampling=Sampling(stop=(word,))))
    assert (stopped.text, stopped.finish_reason) == (whole[: whole.index(word)], "stop")
    assert stopped.tokens < 24


# --- log-probabilities and sampling ------------------------------------------------------------------------------


@weights
async def test_statistics_are_those_of_the_full_log_softmax(model: TransformersModel, plain: tuple[Any, Any]) -> None:
    import torch

    prompt, answer = generate(plain, STORY, 16)
    with torch.inference_mode():
        logits = plain[0](torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    full = logits.double().log_softmax(-1)
    requests = [ask(STORY, 16, top_logprobs=20), ask(STORY, 16, top_logprobs=3), ask(STORY, 16)]
    twenty, three, none = await asyncio.gather(*(model.complete(request) for request in requests))
    assert list(none.stats) == []
    for stats, k in ((twenty.stats, 20), (three.stats, 3)):
        expected = [
            token_stat(float(row[token]), row.topk(k).values.tolist(), len(row))
            for row, token in zip(full, answer, strict=True)
        ]
        assert len(stats) == 16
        for ours, theirs in zip(stats, expected, strict=True):
            assert ours == pytest.approx(theirs, abs=2e-3)


@weights
async def test_a_seed_gives_the_same_text_in_any_company(model: TransformersModel) -> None:
    def sample(seed: int, top_p: float = 1.0) -> Request:
        return ask(sampling=Sampling(temperature=1.0, top_p=top_p, seed=seed))

    requests = [sample(1), sample(2), sample(1, 0.7), sample(3, 0.7)]
    alone = [(await model.complete(request)).text for request in requests]
    together = [a.text for a in await asyncio.gather(*map(model.complete, [*requests, ask()]))]
    assert together[:4] == alone
    assert len(set(together)) == 5


@weights
def test_draws_follow_the_distribution() -> None:
    import torch

    from tandem.models.transformers.batching import Row, choose

    logits = torch.full((3000,), -20.0)
    logits[:4] = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    row = Row(tokens=[0], sampling=Sampling(temperature=1.0, seed=5))
    cool = Row(tokens=[0], sampling=Sampling(temperature=0.5, seed=6))
    nucleus = Row(tokens=[0], sampling=Sampling(temperature=1.0, top_p=0.75, seed=7))
    drawn = [[choice.token for choice in choose([row, cool, nucleus], logits.repeat(3, 1))] for _ in range(2000)]
    for column, weights_ in enumerate(([0.5, 0.3, 0.15, 0.05], [0.25, 0.09, 0.0225, 0.0025], [0.5, 0.3, 0, 0])):
        for token, weight in enumerate(weights_):
            share = sum(choice[column] == token for choice in drawn) / 2000
            assert share == pytest.approx(weight / sum(weights_), abs=0.05)


@weights
def test_a_nucleus_wider_than_the_first_candidates_is_still_whole() -> None:
    import torch

    from tandem.models.transformers.batching import Row, choose

    flat = Row(tokens=[0], sampling=Sampling(temperature=1.0, top_p=0.9, seed=1))
    drawn = {choose([flat], torch.zeros(1, 4000))[0].token for _ in range(400)}
    assert len(drawn) > 300  # 400 draws from 3,600 tokens; were it cut at 1,024 candidates, about 331 at most


# --- continuing --------------------------------------------------------------------------------------------------


@weights
async def test_an_answer_is_continued_from_text_and_from_ids(model: TransformersModel, plain: tuple[Any, Any]) -> None:
    _, ids = generate(plain, STORY, 24)
    tokenizer = plain[1]
    head, whole = tokenizer.decode(ids[:10]), tokenizer.decode(ids)
    for prefix in (head, tuple(ids[:10])):
        rest = await model.complete(ask(STORY, 14, prefix=prefix))
        assert head + rest.text == whole


@weights
async def test_a_prompt_with_a_known_beginning_is_not_read_again(model: TransformersModel) -> None:
    short, long = STORY + " It begins at night.", STORY + " It begins at noon, with rain on every roof of the town."
    fresh = await model.complete(ask(long, 24, top_logprobs=20))
    await model.complete(ask(short, 4, affinity="one"))
    again = await model.complete(ask(long, 24, top_logprobs=20, affinity="one"))
    other = await model.complete(ask(long, 4, affinity="two"))
    assert fresh.usage.cached == other.usage.cached == 0
    assert model.count(STORY) <= again.usage.cached < again.usage.prompt
    assert again.text == fresh.text
    for ours, theirs in zip(again.stats, fresh.stats, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3)


@weights
async def test_what_was_cut_at_its_cap_goes_on_without_reading_it_again(
    model: TransformersModel, plain: tuple[Any, Any]
) -> None:
    _, ids = generate(plain, STORY, 24)
    first = await model.complete(ask(STORY, 12, affinity="mentor"))
    # Others with the same key in one pass: one that knows everything but its last token, one that shares the prompt.
    rest, side = await asyncio.gather(
        model.complete(ask(STORY, 12, prefix=tuple(ids[:12]), affinity="mentor")),
        model.complete(ask(STORY, 12, prefix="Once", affinity="mentor")),
    )
    assert first.text + rest.text == plain[1].decode(ids)
    assert rest.usage.cached == rest.usage.prompt - 1
    assert side.usage.cached == first.usage.prompt
    assert side.text == (await model.complete(ask(STORY, 12, prefix="Once"))).text


@weights
async def test_the_prompt_cache_stays_within_its_bytes() -> None:
    import torch

    from tandem.models.transformers.batching import PromptStore

    def kv(tokens: int) -> list[tuple[Any, Any]]:
        return [(torch.zeros(1, tokens, 8), torch.zeros(1, tokens, 8))]  # 64 bytes a token

    store = PromptStore(64 * 25)
    for name in ("a", "b"):
        store.put(name, list(range(10)), kv(10))
    assert store.take("a", [0, 1, 9]) is not None  # now "b" is the least recently used
    store.put("c", list(range(10)), kv(10))
    store.put("d", list(range(26)), kv(26))  # larger than everything: not kept
    known = {name for name in "abcd" if store.take(name, list(range(30)))}
    assert known == {"a", "c"}


# --- leaving -----------------------------------------------------------------------------------------------------


@weights
async def test_a_closed_stream_leaves_the_batch(model: TransformersModel) -> None:
    alone = (await model.complete(ask(QUESTIONS[3], 20))).text
    leaving, staying = model.stream(ask(STORY, 4000)), model.stream(ask(QUESTIONS[3], 20))
    begun, _ = await read(staying, 4), await read(leaving, 3)
    assert model.running == 2
    await leaving.aclose()
    await until(lambda: model.running == 1)
    async with aclosing(staying):
        assert begun + await read(staying, 16) == alone
    await until(lambda: model.running == 0)


@weights
async def test_waiting_requests_can_be_given_up(smollm2: Path) -> None:
    model = TransformersModel(SPEC, smollm2, device="cpu", max_batch=1)
    first = model.stream(ask(STORY, 4000))
    await read(first, 2)
    second, third = (asyncio.create_task(model.complete(ask(STORY, 4))) for _ in range(2))
    await until(lambda: model.waiting == 2)
    second.cancel()
    await until(lambda: model.waiting == 1)
    assert model.running == 1
    await first.aclose()
    assert (await third).tokens == 4
    assert second.cancelled()
    await model.aclose()


@weights
async def test_closing_the_model_ends_what_is_in_flight(smollm2: Path) -> None:
    model = TransformersModel(SPEC, smollm2, device="cpu")
    stream = model.stream(ask(STORY, 4000))
    await read(stream, 2)
    await model.aclose()
    with pytest.raises(EndpointError, match="closed"):
        async for _ in stream:
            pass
    with pytest.raises(EndpointError, match="closed"):
        await model.complete(ask())
    assert (model.running, model.waiting) == (0, 0)


@weights
async def test_two_models_take_turns_on_a_cpu(model: TransformersModel, smollm2: Path) -> None:
    other = TransformersModel(SPEC, smollm2, device="cpu", dtype="float32")
    alone = await model.complete(ask(STORY, 12))
    await other.probe()
    async with aclosing(other.stream(ask(STORY, 4000))) as stream:
        begun = await read(stream, 1)
        assert (await model.complete(ask(STORY, 12))).text == alone.text
        assert alone.text.startswith(begun + await read(stream, 5))
    await other.aclose()


@weights
def test_a_process_with_a_stream_open_ends(smollm2: Path) -> None:
    script = f"""
        import asyncio
        from tandem.models.base import Request
        from tandem.models.transformers import TransformersModel
        from tandem.spec import ModelSpec
        from tandem.types import Message

        async def main():
            model = TransformersModel(ModelSpec(name="m"), {str(smollm2)!r}, device="cpu")
            request = Request(messages=(Message(role="user", content="Hi"),), purpose="answer", max_tokens=4000)
            stream = model.stream(request)
            keep.append((model, stream, await anext(stream)))

        keep = []
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        print("left", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "left"), done.stderr


# --- what a model is, and what may go wrong ----------------------------------------------------------------------


@weights
async def test_a_probe_fills_what_the_specification_leaves_open(model: TransformersModel, smollm2: Path) -> None:
    spec = await model.probe()
    assert isinstance(model, Model)
    assert spec == model.spec
    assert spec.parameters == spec.active_parameters == 134_515_008  # the embeddings are tied: counted once
    assert spec.architecture == Architecture(layers=30, attention_width=576)
    assert (spec.vocabulary, spec.context, spec.continuation) == (49152, 8192, Continuation.NATIVE)
    assert spec.logprobs and spec.logprobs_mode == "raw"
    given = TransformersModel(SPEC.model_copy(update={"context": 100, "parameters": 1.5e8}), lambda: smollm2)
    known = await given.probe()
    await given.aclose()
    assert (known.context, known.parameters, known.active_parameters) == (100, 1.5e8, 134_515_008)


@weights
async def test_too_long_a_prompt_is_refused_with_the_numbers(model: TransformersModel) -> None:
    with pytest.raises(EndpointError, match=r"prompt of \d+ tokens and max_tokens 8190 .* context of 8192 tokens"):
        await model.complete(ask(tokens=8190))
    with pytest.raises(UsageError, match="max_tokens"):
        await model.complete(ask(tokens=0))


@weights
async def test_a_failed_pass_is_an_error_of_one_line_and_the_worker_goes_on(model: TransformersModel) -> None:
    from torch.nn import Embedding
    from torch.nn.modules.module import register_module_forward_pre_hook

    failing: set[str] = set()

    def fail(module: Any, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, Embedding) and ("prompt" if arguments[0].shape[1] > 1 else "token") in failing:
            raise RuntimeError("the device is out of memory\nand so on, for many lines")

    alone = (await model.complete(ask(STORY, 20))).text
    hook = register_module_forward_pre_hook(fail)
    try:
        async with aclosing(model.stream(ask(STORY, 20))) as stream:
            begun = await read(stream, 3)
            failing.add("prompt")  # whoever comes in fails alone
            with pytest.raises(EndpointError, match=r"out of memory with 2 requests at once.*max_batch") as caught:
                await model.complete(ask(QUESTIONS[3], 5))
            assert "\n" not in str(caught.value)
            failing.clear()
            assert begun + await read(stream, 17) == alone
        failing.add("token")  # all that are being written fail
        lost = await asyncio.gather(*(model.complete(ask(STORY, 9)) for _ in range(2)), return_exceptions=True)
        assert [type(error) for error in lost] == [EndpointError, EndpointError]
    finally:
        hook.remove()
    assert (await model.complete(ask(STORY, 20))).text == alone


@weights
async def test_token_ids_that_do_not_exist_are_refused(model: TransformersModel) -> None:
    with pytest.raises(UsageError, match="0 to 49151"):
        await model.complete(ask(prefix=(49152,)))


@weights
async def test_a_model_without_a_chat_template_reads_plain_text(smollm2: Path, tmp_path: Path) -> None:
    without_template(smollm2, tmp_path)
    model = TransformersModel(SPEC, tmp_path, device="cpu")
    answer = await model.complete(ask("Hello", 2))
    assert answer.usage.prompt == model.count("user: Hello\n\nassistant:")
    await model.aclose()


@weights
@pytest.mark.parametrize("opens", [True, False])
async def test_a_thought_that_the_template_opens_has_its_tag(smollm2: Path, tmp_path: Path, opens: bool) -> None:
    without_template(smollm2, tmp_path)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}Once upon a time" + ("<think>\n" if opens else "")
    (tmp_path / "chat_template.jinja").write_text(template)
    model = TransformersModel(SPEC, tmp_path, device="cpu", dtype="float32")
    spec = await model.probe()
    assert spec.opens_thinking is opens and spec.thinks is opens
    whole = await model.complete(ask(tokens=12))
    assert whole.text.startswith("<think>") == opens and whole.tokens == 12
    head = await model.complete(ask(tokens=4))
    rest = await model.complete(ask(tokens=8, prefix=head.text))
    assert head.text + rest.text == whole.text  # the tag is in the prompt once
    await model.aclose()


@weights
async def test_a_template_that_refuses_is_an_error_of_one_line(smollm2: Path, tmp_path: Path) -> None:
    without_template(smollm2, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('no system role here') }}")
    model = TransformersModel(SPEC, tmp_path, device="cpu")
    with pytest.raises(EndpointError, match=r"chat template of smollm2-135m refuses .* no system role here"):
        await model.complete(ask())
    await model.aclose()


@weights
async def test_a_load_that_failed_is_tried_again(smollm2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = TransformersModel(SPEC, folder, device="cpu")
    with pytest.raises(EndpointError, match="no model folder"):
        await model.probe()
    shutil.copytree(smollm2, folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(EndpointError, match="cannot be loaded") as caught:
        await model.probe()
    assert "\n" not in str(caught.value)
    shutil.copy(smollm2 / "config.json", folder)
    assert (await asyncio.gather(model.probe(), model.complete(ask(tokens=2))))[1].tokens == 2
    await model.aclose()


@weights
async def test_cut_is_a_beginning_with_so_many_tokens(model: TransformersModel) -> None:
    text = "The cat 🎉 sat on the mat;  " + "naïve café 你好 " * 3
    for tokens in range(model.count(text) + 2):
        piece = model.cut(text, tokens)
        assert text.startswith(piece)
        assert tokens - 4 < model.count(piece) <= tokens or piece == text
    assert model.cut(text, 10_000) == text


@pytest.mark.slow
def test_without_torch_the_error_is_the_install_line(tmp_path: Path) -> None:
    script = f"""
        import asyncio, sys
        sys.modules["torch"] = None  # as if it were not installed
        from tandem.errors import MissingPackageError
        from tandem.models.transformers import TransformersModel
        from tandem.spec import ModelSpec
        try:
            asyncio.run(TransformersModel(ModelSpec(name="m"), {str(tmp_path)!r}).probe())
        except MissingPackageError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "in-process models needs an extra: pip install 'tandem-reasoning[local]'"
