"""/v1/completions: one text or several, whole and streamed, by the official client."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serving import ANSWER, QUESTION, Server, events

from tandem.models.fake import FakeModel

Start = Callable[..., Server]


def test_a_text_is_asked_as_one_message(start: Start, low: str) -> None:
    server = start(classifier=low)
    with server.openai() as client:
        found = client.completions.create(model="tandem", prompt=QUESTION)
    assert (found.object, found.model, found.id[:5]) == ("text_completion", "tandem", "cmpl-")
    (choice,) = found.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, ANSWER, "stop")
    assert found.usage and found.usage.prompt_tokens == 3 and found.usage.completion_tokens == 5 + len(ANSWER.split())
    assert isinstance(server.intern, FakeModel)
    assert [m.role for m in server.intern.calls[0].messages] == ["user"]


def test_several_texts_and_choices_keep_their_order(start: Start) -> None:
    model = FakeModel(name="fake-intern")
    model.answer = lambda request: f"{request.messages[0].content} {request.sampling.seed}"
    with start(None, model).openai() as client:
        found = client.completions.create(
            model="intern", prompt=["one", "one", "two"], n=2, temperature=0.5, seed=4, max_tokens=9
        )
    assert [c.text for c in found.choices] == ["one 4", "one 5", "one 4", "one 5", "two 4", "two 5"]
    assert [c.index for c in found.choices] == list(range(6))
    assert found.usage
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (3, 12, 15)


def test_a_stream_of_text(start: Start) -> None:
    server = start()
    with server.openai() as client:
        stream = client.completions.create(
            model="intern", prompt=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == ANSWER
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage and chunks[-1].usage.prompt_tokens == 3
    wire = events(server.post({"model": "intern", "prompt": QUESTION, "stream": True}, "/v1/completions"))
    assert wire[-1] == "[DONE]" and all(chunk["choices"] for chunk in wire[:-1])


def test_stop_and_cap(plain: Server) -> None:
    with plain.openai() as client:
        cut = client.completions.create(model="intern", prompt=QUESTION, max_tokens=3)
        stopped = client.completions.create(model="intern", prompt=QUESTION, stop="then")
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("first I split", "length")
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == ("first I split , ", "stop")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["one", " "]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": [1, 2, 3], "model": "tandem"}, "prompt"),
        ({"prompt": [1, -2, 3]}, "prompt[0]"),
        ({"prompt": [1, True]}, "prompt[0]"),
        ({"prompt": [[1, 2], [3, 2**31]]}, "prompt[1]"),
        ({"prompt": [[1, 2], [3, "x"]]}, "prompt[1]"),
        ({"prompt": ["x", 7]}, "prompt[1]"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"prompt": "", "echo": True}, "prompt"),
        ({"prompt": [1] * 40_000}, "prompt"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["x"] * 9}, "prompt"),
        ({"prompt": ["one", "two"], "stream": True}, "prompt"),
        ({"prompt": "x", "echo": True, "model": "tandem"}, "echo"),
        ({"prompt": "x", "echo": "yes"}, "echo"),
        ({"prompt": "x", "echo": True, "n": 2, "temperature": 1}, "n"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 0, "logprobs": 1}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 0, "echo": True}, "max_tokens"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": ["x"] * 129, "echo": True}, "prompt"),
        ({"prompt": [[1] * 2000] * 4, "echo": True, "logprobs": 20}, "logprobs"),
        ({"prompt": ["x", "y"], "echo": True, "stream": True}, "prompt"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "logprobs": 5, "model": "tandem"}, "logprobs"),
        ({"prompt": "x", "logprobs": 21}, "logprobs"),
        ({"prompt": "x", "logprobs": -1}, "logprobs"),
        ({"prompt": "x", "logprobs": True}, "logprobs"),
        ({"prompt": "x", "logprobs": 1, "top_logprobs": 3}, "top_logprobs"),
        ({"prompt": "word " * 40_000}, "prompt"),
    ],
)
def test_what_cannot_be_honoured_is_refused(plain: Server, body: dict[str, object], param: str) -> None:
    response = plain.post({"model": "intern", **body}, "/v1/completions")
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error" and error["param"] == param
