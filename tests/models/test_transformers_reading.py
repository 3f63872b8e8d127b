"""Log-probabilities of a given text from real weights in this process, against Transformers' own pass."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tandem.errors import UsageError
from tandem.models.base import Reads, Request
from tandem.models.logprobs import token_stat
from tandem.models.transformers import TransformersModel
from tandem.spec import ModelSpec
from tandem.types import Message

SPEC = ModelSpec(name="smollm2-135m")
TEXT = "Question: What is 3+5? 日本\nHint: add\nAnswer: " + "the sum of both is eight and not nine " * 12


@pytest.mark.weights
async def test_a_text_is_read_as_transformers_itself_reads_it(smollm2: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = TransformersModel(SPEC, smollm2, device="cpu", dtype="float32")
    assert isinstance(model, Reads)
    ask = Request(messages=(Message(role="user", content="Say hello."),), purpose="answer", max_tokens=12)
    alone = await model.complete(ask)
    reading, beside = await asyncio.gather(model.read(TEXT, top_logprobs=5), model.complete(ask))
    cut = await model.read(TEXT, top_logprobs=5, max_tokens=10)
    assert beside.text == alone.text  # the batch is left alone
    ids = AutoTokenizer.from_pretrained(smollm2)(TEXT)["input_ids"]
    with torch.inference_mode():
        plain = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
        known = torch.log_softmax(plain(torch.tensor([ids])).logits[0, :-1], dim=-1)
    best = known.topk(5).values.tolist()
    expected = [token_stat(known[k, ids[k + 1]].item(), best[k], known.shape[-1]) for k in range(len(ids) - 1)]
    assert len(reading.stats) == len(ids) - 1 > 64
    for found, wanted in zip(reading.stats, expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-3)
    assert len(reading.pieces) == len(ids) == reading.usage.prompt and reading.pieces[0] == "Question"
    assert [s.logprob for s in cut.stats] == pytest.approx([s.logprob for s in reading.stats[:9]], abs=1e-3)
    with pytest.raises(UsageError, match="reads 8192 tokens at most"):
        await model.read("word " * 9000)
    await model.aclose()
