"""Prompts that are read as they stand: with their log-probabilities, by token ids, and the tokenizer for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import QUESTION, Server, error_of, events, mentor, serving

from tandem.models.fake import FakeModel, Rule, Script
from tandem.models.transformers import TransformersModel
from tandem.server.keys import add_key
from tandem.spec import ModelSpec

Start = Callable[..., Server]
TEXT = "Question: is it <think> ?\nAnswer:"
WORDS = ["Question:", " is", " it", " <think>", " ?", "\nAnswer:"]


@pytest.fixture
def server(start: Start) -> Server:
    """A server whose intern goes on with " yes, sir"."""
    return start(None, FakeModel(Script(rules=(Rule(text=" yes, sir"),)), name="fake-intern"))


def completed(server: Server, **fields: Any) -> dict[str, Any]:
    response = server.post({"model": "intern", "prompt": TEXT, **fields}, "/v1/completions")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def ids(server: Server, text: str = TEXT, **fields: Any) -> list[int]:
    response = server.post({"prompt": text, "add_special_tokens": False, **fields}, "/tokenize")
    assert response.status_code == 200, response.text
    found: list[int] = response.json()["tokens"]
    return found


def test_what_lm_eval_asks_for(server: Server) -> None:
    fields = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    by_text = completed(server, **fields)
    by_ids = completed(server, prompt=[ids(server)], **fields)
    assert by_text["choices"] == by_ids["choices"] and by_text["usage"] == by_ids["usage"] | {
        "tandem": by_text["usage"]["tandem"]
    }
    (choice,) = by_text["choices"]
    assert choice["text"] == TEXT + " yes," and choice["finish_reason"] == "length"
    given = choice["logprobs"]
    assert given["tokens"] == [*WORDS, " yes,"] and given["text_offset"] == [0, 9, 12, 15, 23, 25, 33]
    assert given["token_logprobs"][0] is given["top_logprobs"][0] is None
    for own, top, word in zip(given["token_logprobs"][1:], given["top_logprobs"][1:], given["tokens"][1:], strict=True):
        assert own < 0 and top[word] == own
    assert by_text["usage"]["prompt_tokens"] == 6 and by_text["usage"]["completion_tokens"] == 1
    (ledger, _) = server.ledgers
    assert [(entry.purpose, entry.usage.prompt) for entry in ledger] == [("answer", 6)]
    assert isinstance(server.intern, FakeModel) and server.intern.calls == []  # one pass was enough


def test_several_prompts_keep_their_order(server: Server) -> None:
    prompts = ["one two", "three", "four five six"] * 4
    found = completed(server, prompt=[ids(server, text) for text in prompts], max_tokens=0, echo=True, logprobs=0)
    assert [choice["text"] for choice in found["choices"]] == prompts
    assert [len(choice["logprobs"]["tokens"]) for choice in found["choices"]] == [2, 1, 3] * 4
    assert found["choices"][1]["logprobs"]["token_logprobs"] == [None]
    assert found["usage"]["prompt_tokens"] == 24


def test_token_ids_are_completed_without_a_template(server: Server) -> None:
    choice = completed(server, prompt=ids(server))["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]) == (" yes, sir", "stop", None)
    assert isinstance(server.intern, FakeModel) and server.intern.calls[0].raw == tuple(ids(server))
    echoed = completed(server, prompt=ids(server), echo=True, max_tokens=1)["choices"][0]
    assert echoed["text"] == TEXT + " yes," and echoed["logprobs"] is None


def test_a_stream_has_the_prompt_first(server: Server) -> None:
    body = {"model": "intern", "prompt": TEXT, "echo": True, "logprobs": 2}
    whole = completed(server, **body)["choices"][0]
    chunks = [chunk["choices"][0] for chunk in events(server.post(body | {"stream": True}, "/v1/completions"))[:-1]]
    assert chunks[0]["text"] == TEXT and "".join(chunk["text"] for chunk in chunks) == whole["text"]
    for name, values in whole["logprobs"].items():
        assert [value for chunk in chunks if chunk["logprobs"] for value in chunk["logprobs"][name]] == values


def test_by_the_official_client(server: Server) -> None:
    with server.openai() as client:
        found = client.completions.create(model="mentor", prompt=TEXT, echo=True, logprobs=3, max_tokens=1)
    (choice,) = found.choices
    assert choice.logprobs and choice.logprobs.tokens == [*WORDS, "the"]


def test_a_model_without_says_so_in_the_field(start: Start) -> None:
    server = start(mentor(logprobs=False))
    error = error_of(server.post({"model": "mentor", "prompt": "x y", "echo": True, "logprobs": 1}, "/v1/completions"))
    assert error["param"] == "logprobs"


def test_a_text_is_still_a_message(server: Server) -> None:
    assert isinstance(server.intern, FakeModel)
    completed(server, prompt=QUESTION)
    assert server.intern.calls[-1].raw is None and QUESTION in server.intern.calls[-1].messages[-1].content


def test_the_tokenizer_goes_both_ways(server: Server) -> None:
    with server.http() as client:
        assert client.get("/tokenizer_info").json() == {"bos_token": None, "eos_token": "<end>"}
        assert client.get("/tokenizer_info?model=mentor").status_code == 200
        assert client.post("/detokenize", json={"tokens": ids(server)}).json() == {"prompt": TEXT}
        assert client.post("/tokenize", json={"prompt": TEXT, "model": "mentor"}).json()["count"] == 6
        refused: list[tuple[str, Any, str]] = [
            ("/tokenize", {}, "prompt"),
            ("/tokenize", {"prompt": ["x"]}, "prompt"),
            ("/tokenize", {"prompt": "\ud800"}, "prompt"),
            ("/tokenize", {"prompt": "x" * 1_000_001}, "prompt"),
            ("/tokenize", {"prompt": "x", "model": "tandem"}, "model"),
            ("/tokenize", {"prompt": "x", "add_special_tokens": "no"}, "add_special_tokens"),
            ("/detokenize", {}, "tokens"),
            ("/detokenize", {"tokens": "x"}, "tokens"),
            ("/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
            ("/detokenize", {"tokens": [2**31]}, "tokens[0]"),
        ]
        for path, body, param in refused:
            content, kind = json.dumps(body), {"Content-Type": "application/json"}
            assert error_of(client.post(path, content=content, headers=kind))["param"] == param
        assert error_of(client.get("/tokenizer_info?model=tandem"))["param"] == "model"


def test_prompts_count_against_the_rate_and_the_tokenizer_needs_a_key(start: Start, file: Path) -> None:
    key = add_key(file, "alice", 3, None)
    server = start(keys=file, key=key)
    for path in ("/tokenize", "/detokenize", "/tokenizer_info"):
        response = httpx.request("GET" if "info" in path else "POST", f"{server.url}{path}", json={}, trust_env=False)
        assert error_of(response, 401)["type"] == "authentication_error"
    body = {"model": "intern", "prompt": ["a b"] * 4, "echo": True, "logprobs": 1, "max_tokens": 1}
    error_of(server.post(body, "/v1/completions"), 429)
    assert server.post(body | {"prompt": ["a b"] * 3}, "/v1/completions").status_code == 200
    assert len(ids(server)) == 6  # not counted


@pytest.mark.weights
def test_real_log_probabilities_are_those_of_transformers_itself(smollm2: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = ModelSpec(name="smollm2-135m")
    model = TransformersModel(spec, smollm2, device="cpu", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    plain = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    text = (
        "Question: How do you write 'Tokyo' in Japanese?\nAnswer: 東京 🦊." + " It is a large city." * 60
    )  # two portions
    given = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        known = torch.log_softmax(plain(torch.tensor([given])).logits[0], dim=-1)
    assert len(given) > 300
    with serving(mentor(), model) as server:
        assert ids(server, text) == given
        found = completed(server, prompt=given, echo=True, logprobs=3, max_tokens=1, temperature=0)
        chatted = server.ask("intern", logprobs=True, top_logprobs=2, max_tokens=12, temperature=0)
        with server.http() as client:
            assert client.get("/tokenizer_info").json()["eos_token"] == tokenizer.eos_token
    (choice,) = found["choices"]
    lists = choice["logprobs"]
    assert choice["text"].startswith(text) and found["usage"]["prompt_tokens"] == len(given)
    own = [known[k, token].item() for k, token in enumerate(given[1:])]
    assert lists["token_logprobs"][1:-1] == pytest.approx(own, abs=1e-3)
    best = known[-1].argmax()
    assert lists["tokens"][-1] == tokenizer.decode(best)
    assert lists["token_logprobs"][-1] == pytest.approx(known[-1, best].item(), abs=1e-3)
    tops = [sorted(top.values(), reverse=True)[:3] for top in lists["top_logprobs"][1:]]
    for top, wanted, texts in zip(tops, known.topk(3).values.tolist(), known.topk(3).indices.tolist(), strict=True):
        if len({tokenizer.decode(token) for token in texts}) == 3 and len(top) == 3:
            assert top == pytest.approx(wanted, abs=1e-3)
    # A chat has the tokens of its text, half characters by their bytes.
    (answer,) = chatted["choices"]
    tokens = answer["logprobs"]["content"]
    raw = b"".join(bytes(token["bytes"]) for token in tokens)
    assert raw.decode("utf-8", "ignore").startswith(answer["message"]["content"]) and len(tokens) >= 2
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    assert all(token["logprob"] == token["top_logprobs"][0]["logprob"] for token in tokens)  # it is greedy
