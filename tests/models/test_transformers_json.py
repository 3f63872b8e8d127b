"""JSON from a model in this process: its tokens are drawn by the schema, beside others that are not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.json_schema import misfit
from tandem.models.base import Completion, Request
from tandem.models.transformers import TransformersModel
from tandem.response_format import ResponseFormat
from tandem.spec import ModelSpec, Sampling
from tandem.types import Message

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]
pytest.importorskip("xgrammar")

CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "size": {"enum": ["small", "large"]},
        "founded": {"type": "integer", "minimum": 100, "maximum": 2000},
    },
    "required": ["name", "size", "founded"],
    "additionalProperties": False,
}
FORM = ResponseFormat(json.dumps(CITY), "city")


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[TransformersModel]:
    model = TransformersModel(ModelSpec(name="smollm2-135m"), smollm2, device="cpu", dtype="float32")
    yield model
    asyncio.run(model.aclose())


def ask(form: ResponseFormat | None, temperature: float = 0.0, tokens: int = 48) -> Request:
    asked = (Message(role="user", content="Tell me about a city."),)
    sampling = Sampling(temperature=temperature, seed=5)
    return Request(asked, "answer", tokens, sampling, response_format=form, top_logprobs=3)


async def all_of(model: TransformersModel, *requests: Request) -> list[Completion]:
    return await asyncio.gather(*(model.complete(request) for request in requests))


def test_what_is_asked_for_as_json_fits_and_the_answer_beside_it_is_as_alone(model: TransformersModel) -> None:
    forms = [ask(FORM), ask(FORM, 2.0), ask(None, tokens=12)]
    *formed, free = asyncio.run(all_of(model, *forms))
    for answer in formed:
        assert answer.finish_reason == "stop" and misfit(FORM.schema, answer.text) is None, answer.text
        assert len(answer.stats) == answer.tokens
    assert free.text == asyncio.run(all_of(model, ask(None, tokens=12)))[0].text
    assert misfit("", free.text) is not None


def test_an_answer_that_its_cap_cuts_is_a_beginning_of_json(model: TransformersModel) -> None:
    (answer,) = asyncio.run(all_of(model, ask(FORM, tokens=6)))
    assert answer.finish_reason == "length" and answer.text.startswith('{"name": "')


def test_without_a_schema_it_is_any_object(model: TransformersModel) -> None:
    (answer,) = asyncio.run(all_of(model, ask(ResponseFormat(), tokens=16)))
    assert answer.text.startswith("{") and (answer.finish_reason == "length" or misfit("", answer.text) is None)


def test_a_penalty_keeps_a_model_from_repeating_itself(model: TransformersModel) -> None:
    asked = (Message(role="user", content="Write the word sea fifty times."),)
    plain, bent = (Request(asked, "answer", 40, Sampling(frequency_penalty=penalty)) for penalty in (0.0, 2.0))
    usual, varied = (answer.text.split() for answer in asyncio.run(all_of(model, plain, bent)))
    assert len(set(varied)) / len(varied) > len(set(usual)) / len(usual)
