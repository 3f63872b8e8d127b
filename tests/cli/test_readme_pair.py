"""The README's command: gpt-4o behind its API, and DeepSeek-R1-Distill-Qwen-7B as `vllm serve` names it.

Both endpoints are scripted, with the usage fields of the real ones. The problems are of our own wording, in the data
set's format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import thinking
from commands import SECRET, Cli
from stub import Reply, Stub

README = "run --mentor gpt-4o --intern deepseek-7b --dataset math500"
SERVED = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
PRICES = {"plain": 2.5e-6, "cached": 1.25e-6, "written": 10e-6}  # of gpt-4o, as OpenAI lists them
HIDDEN = ("reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
INSIGHT = (
    "Goal:",
    " add",
    "\n",
    "Planning:",
    " first",
    "\n",
    "Retrieval:",
    " sums",
    "\n",
    "Action:",
    " add",
    " up",
    ".",
)


def tokens_of(body: dict[str, Any]) -> int:
    return 8 + sum(len(message["content"].split()) for message in body["messages"])


def mentor_reply(body: dict[str, Any]) -> Reply:
    """Answer as OpenAI does: no continuation, usage in the last chunk only, half of the prompt read from the cache."""
    question = next(m["content"] for m in body["messages"] if m["role"] == "user")
    prompt = tokens_of(body)
    api = Reply(
        prompt_tokens=prompt,
        continuous=False,
        refuses=("continue_final_message", "stream_options.continuous_usage_stats"),
        usage_fields=json.dumps(
            {
                "prompt_tokens_details": {"cached_tokens": prompt // 2, "audio_tokens": 0},
                "completion_tokens_details": dict.fromkeys(HIDDEN, 0),
            }
        ),
    )
    if "Action" in json.dumps(body["messages"]):
        return replace(api, tokens=INSIGHT)
    return replace(api, tokens=("The", " answer", " is", " \\boxed{", re.findall(r"\d+", question)[-1], "}", "."))


def intern_reply(body: dict[str, Any]) -> Reply:
    """Answer as vLLM does for an R1 model without a reasoning parser: the thought is in the content."""
    return replace(thinking.respond(body), usage_fields='{"prompt_tokens_details": null}')


def bill(mentor: Stub) -> float:
    """Return what OpenAI would write on the bill for the run's calls, by the fields of its usage reports."""
    total = 0.0
    for seen in mentor.chats:
        if seen.status != 200 or "Count from 1 to 20" in seen.body["messages"][0]["content"]:
            continue  # refused, or the one short request that finds out what an endpoint can do
        prompt = seen.billed_prompt
        plain, cached = prompt - prompt // 2, prompt // 2
        total += plain * PRICES["plain"] + cached * PRICES["cached"] + seen.billed_completion * PRICES["written"]
    return total


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Four problems where the data set is looked for."""
    (tmp_path / "sets").mkdir()
    rows = [
        {
            "problem": f"A jar holds {n} coins and one more is put in; that makes {n + 1}",
            "solution": f"It is \\boxed{{{n + 1}}}.",
            "answer": str(n + 1),
            "subject": "Prealgebra",
            "level": 1,
            "unique_id": f"own/{n}.json",
        }
        for n in (3, 5, 8, 13)
    ]
    (tmp_path / "sets" / "math500.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path / "sets"))
    return len(rows)


@pytest.fixture
def intern(serve: Callable[[Stub], Stub], monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The intern as the README serves it."""
    stub = serve(Stub(respond=intern_reply, models=[{"id": SERVED, "root": SERVED, "max_model_len": 65536}]))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("TANDEM_RUN_INTERN_ENDPOINT", stub.url)
    monkeypatch.setenv("TANDEM_RUN_OUT", "out")
    return stub


def test_the_readmes_command_works_as_written(
    cli: Cli, serve: Callable[[Stub], Stub], intern: Stub, data: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = Path(__file__).parents[2]
    assert "tandem run --mentor gpt-4o --intern deepseek-7b" in (top / "README.md").read_text()
    assert all(f"vllm serve {SERVED} " in (top / "docs" / page).read_text() for page in ("models.md", "tutorial.md"))
    mentor = serve(Stub(respond=mentor_reply, models=[{"id": "gpt-4o", "object": "model"}], key=SECRET))
    monkeypatch.setenv("TANDEM_RUN_MENTOR_ENDPOINT", mentor.url)
    outcome = cli(*README.split())
    assert outcome.code == 0, outcome.err
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["n"], summary["accuracy"], summary["unit"], summary["errors"]) == (data, 1.0, "usd", 0)
    assert summary["usd"] == pytest.approx(bill(mentor)) and summary["mentor_tokens"] > 0
    assert {chat.body["model"] for chat in intern.chats} == {SERVED}
    assert {chat.body["model"] for chat in mentor.chats} == {"gpt-4o"}
    # gpt-4o's size is not known: that hinders TFLOPs and nothing else.
    assert summary["tflops"] is None and summary["cost"]["usd"]["mean"] == pytest.approx(summary["usd"] / data)
    assert "US$" in outcome.out and "not known" in outcome.out
    assert SECRET not in outcome.out + outcome.err + Path("out/calls.jsonl").read_text()


def test_cache_writes_and_hidden_thought_are_on_the_bill(
    cli: Cli, serve: Callable[[Stub], Stub], intern: Stub, data: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        prompt = tokens_of(body)
        details = {"cached_tokens": prompt // 4, "cache_write_tokens": prompt // 2}
        return replace(
            mentor_reply(body),
            reasoning_tokens=70,
            refuses=("continue_final_message", "temperature", "max_tokens", "reasoning_effort=minimal"),
            usage_fields=json.dumps({"prompt_tokens_details": details}),
        )

    mentor = serve(Stub(respond=respond, models=[{"id": "gpt-6.1-terra", "object": "model"}]))
    monkeypatch.setenv("TANDEM_RUN_MENTOR_ENDPOINT", mentor.url)
    asked = ("run", "--mentor", "gpt-6.1-terra", "--intern", "deepseek-7b", "--dataset", "math500")
    outcome = cli(*asked, "--strategy", "mentor-only", "--json")
    assert outcome.code == 0, outcome.err
    total = 0.0
    for seen in mentor.chats:
        if seen.status == 200 and "Count from 1 to 20" not in seen.body["messages"][0]["content"]:
            read, written = seen.billed_prompt // 4, seen.billed_prompt // 2
            plain = seen.billed_prompt - read - written
            total += plain * 1.0 + read * 0.05 + written * 1.25 + seen.billed_completion * 5.0
    summary = json.loads(outcome.out)
    assert (summary["n"], summary["accuracy"]) == (data, 1.0)
    assert summary["usd"] == pytest.approx(total / 1e6) and total > 0
    monkeypatch.setenv("TANDEM_RUN_OUT", "batch")
    batch = json.loads(cli(*asked, "--strategy", "mentor-only", "--json", "--batch-prices").out)
    assert batch["usd"] == pytest.approx(total / 2e6)
