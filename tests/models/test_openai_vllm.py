"""OpenAIModel against a real vLLM server on the CPU with SmolLM2-135M."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tandem.errors import EndpointError
from tandem.json_schema import misfit
from tandem.models.base import Request
from tandem.models.openai import OpenAIModel
from tandem.response_format import ResponseFormat
from tandem.spec import Continuation, ModelSpec, Sampling
from tandem.types import Message

pytestmark = pytest.mark.vllm

NAME = "smollm2"
CONTEXT = 2048
VOCABULARY = 49_152
START_SECONDS = 400


@pytest.fixture(scope="module")
def server(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server of our own; its process group is killed at the end, its log shown if it fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(smollm2)]
    command += ["--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-logprobs", "20", "--max-model-len", str(CONTEXT), "--enable-prompt-tokens-details"]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "0"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | quiet | cpu, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(port):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"vLLM did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # engine processes that outlive the server


@pytest.fixture
async def model(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIModel]:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    spec = ModelSpec(name=NAME, vocabulary=VOCABULARY)
    served = OpenAIModel(spec, base_url=server, retries=0, timeout=120)
    yield served
    await served.aclose()


def ask(text: str, **changes: Any) -> Request:
    fields: dict[str, Any] = {"messages": (Message(role="user", content=text),), "purpose": "answer", "max_tokens": 16}
    return Request(**(fields | changes))


async def test_probe_completes_the_spec(model: OpenAIModel) -> None:
    spec = await model.probe()
    assert (spec.context, spec.continuation, spec.logprobs) == (CONTEXT, Continuation.NATIVE, True)


async def test_streaming_is_what_complete_returns(model: OpenAIModel) -> None:
    request = ask("What is the capital of France?", top_logprobs=5)
    whole = await model.complete(request)
    deltas = [d async for d in model.stream(request)]
    assert whole.text
    assert "".join(d.text for d in deltas) == whole.text
    assert sum(d.tokens for d in deltas) == whole.tokens == whole.usage.completion
    assert (whole.usage.source, deltas[-1].finish_reason) == ("reported", whole.finish_reason)
    # The prompt's size is known from the first piece on, for streams that are cut.
    assert deltas[0].usage is not None
    assert deltas[0].usage.prompt == whole.usage.prompt > 0


async def test_tokens_are_exact_without_log_probabilities(model: OpenAIModel) -> None:
    done = await model.complete(
        ask("Write a line with an emoji \U0001f30d and a name like Zoë.", purpose="insight", max_tokens=24)
    )
    assert done.tokens == done.usage.completion


async def test_stats_of_each_token_are_plausible(model: OpenAIModel) -> None:
    done = await model.complete(ask("Tell me about the sea.", top_logprobs=20, max_tokens=32))
    assert len(done.stats) == done.tokens == done.usage.completion
    for stat in done.stats:
        assert stat.logprob <= 0 <= stat.margin
        assert 0 <= stat.entropy <= math.log(VOCABULARY)
        assert stat.gap >= 0
        # A greedy token is the likeliest one: its surprise is at most the true entropy, which lies below this sum.
        assert -stat.logprob <= stat.entropy + stat.gap + 1e-3
    assert len({s.entropy for s in done.stats}) > 1


async def test_closing_a_stream_aborts_it_at_the_server(model: OpenAIModel, server: str) -> None:
    before = _metric(server, "vllm:generation_tokens_total")
    async with aclosing(model.stream(ask("Write a very long story about a lighthouse.", max_tokens=1500))) as stream:
        for _ in range(5):
            assert (await anext(stream)).finish_reason is None
        await _running(server, 1)
    await _running(server, 0)
    written = _metric(server, "vllm:generation_tokens_total")
    assert written - before < 1400  # it ended early; how long an abort takes is the machine's affair
    await asyncio.sleep(1)  # a request that went on would write more tokens now
    assert _metric(server, "vllm:generation_tokens_total") == written


async def test_a_partial_answer_is_continued(model: OpenAIModel) -> None:
    await model.probe()
    question = "Count from 1 to 20, separated by commas. Write nothing else."
    request = ask(question, prefix="1, 2, 3, 4, 5, 6, 7", top_logprobs=5)
    assert (await model.complete(request)).text.startswith(", 8, 9, 10")


async def test_cached_prompt_tokens_are_reported(model: OpenAIModel) -> None:
    request = ask("Which of these numbers is the largest? " + " ".join(str(i) for i in range(150)), max_tokens=2)
    first, second = await model.complete(request), await model.complete(request)
    assert first.usage.cached == 0 < second.usage.cached < second.usage.prompt


async def test_a_prompt_that_is_too_long_is_said_so(model: OpenAIModel) -> None:
    with pytest.raises(EndpointError, match="the prompt is too long") as raised:
        await model.complete(ask("word " * (CONTEXT + 100)))
    assert not raised.value.retryable


async def test_an_unknown_model_is_answered_with_the_served_one(server: str) -> None:
    wrong = OpenAIModel(ModelSpec(name="smollm"), base_url=server)
    with pytest.raises(EndpointError, match=f"serves no model 'smollm': it serves {NAME}"):
        await wrong.probe()
    await wrong.aclose()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


async def _running(server: str, requests: int) -> None:
    """Wait until that many requests run; raises TimeoutError after two minutes."""
    async with asyncio.timeout(120):
        while _metric(server, "vllm:num_requests_running") != requests:  # noqa: ASYNC110 (another process's state)
            await asyncio.sleep(0.05)


def _metric(server: str, name: str) -> float:
    with urllib.request.urlopen(server.removesuffix("/v1") + "/metrics", timeout=10) as answer:
        lines = answer.read().decode()
    return sum(float(v) for v in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", lines, re.MULTILINE))


CITY = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 10}, "size": {"enum": ["small", "large"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}


async def test_json_is_decoded_by_its_schema(model: OpenAIModel) -> None:
    form = ResponseFormat(json.dumps(CITY), "city")
    for sampling in (Sampling(), Sampling(temperature=0.7, seed=3)):
        answer = await model.complete(
            ask("Tell me of a city.", response_format=form, sampling=sampling, max_tokens=48, top_logprobs=5)
        )
        ended = answer.finish_reason == "stop" or sampling.temperature  # drawn, it may write white space without end
        assert ended and answer.text.startswith("{"), answer.text
        assert answer.finish_reason == "length" or misfit(form.schema, answer.text) is None, answer.text
        assert answer.stats, "a draft of JSON has its log-probabilities"


async def test_a_schema_that_the_server_cannot_follow_is_asked_for_in_words(model: OpenAIModel) -> None:
    beyond = ResponseFormat(json.dumps(CITY | {"propertyNames": {"maxLength": 9}, "minProperties": 2}), "city")
    answer = await model.complete(ask("Tell me of a city.", response_format=beyond, max_tokens=8))
    assert answer.text and model.dialect.form == "schema", "the next schema is tried again"
