"""A model that an endpoint serves under another of its names is recognised, and asked for by that name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from stub import Reply, Stub

from tandem.errors import EndpointError
from tandem.models.base import Request
from tandem.models.load import load_model
from tandem.models.openai.api_keys import ApiKeys
from tandem.types import Message

HUB = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
async def stubs() -> AsyncIterator[list[Stub]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Stub()) for _ in range(3)]


async def served(stubs: list[Stub], name: str) -> set[str]:
    """Return the names by which the endpoints are asked, from the probe on."""
    model = load_model(name, role="intern", endpoint=",".join(stub.url for stub in stubs))
    try:
        spec = await model.probe()
        assert spec.context == 4096
        for number in range(6):
            await model.complete(Request((Message(role="user", content=f"Hello {number}"),), "answer", 10))
    finally:
        await model.aclose()
    return {str(seen.body["model"]) for stub in stubs for seen in stub.seen if seen.body}


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ("deepseek-7b", HUB),  # as the README serves it
        ("deepseek-7b", HUB.lower()),
        ("DeepSeek-7B", "deepseek-7b"),
        ("deepseek-7b", "deepseek-r1-distill-qwen-7b"),
        (HUB, "deepseek-7b"),
        (HUB.upper(), HUB),
        ("deepseek-7b", "/weights/DeepSeek-R1-Distill-Qwen-7B/"),
        ("deepseek-7b", "/hub/models--deepseek-ai--DeepSeek-R1-Distill-Qwen-7B/snapshots/12ab"),
        ("/weights/DeepSeek-R1-Distill-Qwen-7B", HUB),
        ("deepseek-7b", "unsloth/DeepSeek-R1-Distill-Qwen-7B"),
        ("My-Model", "/srv/my-model"),
    ],
)
@pytest.mark.parametrize("replicas", [1, 3])
async def test_any_name_of_the_model_is_recognised(stubs: list[Stub], asked: str, listed: str, replicas: int) -> None:
    for stub in stubs:
        stub.models = [{"id": "another"}, {"id": listed, "max_model_len": 4096}]
    assert await served(stubs[:replicas], asked) == {listed}


async def test_what_vllm_lists_behind_a_name_of_the_users_is_recognised(stubs: list[Stub]) -> None:
    stubs[0].models = [{"id": name, "root": HUB, "max_model_len": 4096} for name in ("production", "latest")]
    assert await served(stubs[:1], "deepseek-7b") == {"production"}


async def test_each_replica_is_asked_by_its_own_name(stubs: list[Stub]) -> None:
    names = (HUB, "deepseek-7b", "/weights/DeepSeek-R1-Distill-Qwen-7B")
    for stub, name in zip(stubs, names, strict=True):
        stub.models = [{"id": name, "max_model_len": 4096}]
    await served(stubs, "deepseek-7b")
    for stub, name in zip(stubs, names, strict=True):
        assert {seen.body["model"] for seen in stub.seen if seen.body} == {name}


async def test_the_name_as_typed_goes_before_every_other(stubs: list[Stub]) -> None:
    stubs[0].models = [{"id": name, "max_model_len": 4096} for name in (HUB, "deepseek-7b")]
    assert await served(stubs[:1], "deepseek-7b") == {"deepseek-7b"}


async def test_a_service_that_does_not_list_its_models_is_not_asked_for_them(
    stubs: list[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ApiKeys("api.openai.com").lists_models and not ApiKeys("api.anthropic.com").lists_models
    monkeypatch.setattr(ApiKeys, "lists_models", False)
    stubs[0].models_reply = Reply(status=401)
    model = load_model("claude-opus-5-5", role="mentor", endpoint=stubs[0].url)
    assert (await model.probe()).context == 1_000_000
    assert not any(seen.path.endswith("/models") for seen in stubs[0].seen)
    await model.aclose()


@pytest.mark.parametrize(
    ("asked", "listed", "said"),
    [
        ("deepseek-7b", ["prod"], "serves no model 'deepseek-7b': it serves prod; if that is it, pass --intern prod"),
        # Quantised or distilled further, it is another model.
        ("deepseek-7b", [f"{HUB}-AWQ"], f"it serves {HUB}-AWQ; if that is it, pass --intern {HUB}-AWQ"),
        ("someone/Qwen2.5-7B-Instruct", ["Qwen/Qwen2.5-7B-Instruct"], "pass --intern Qwen/Qwen2.5-7B-Instruct"),
        ("deepseek-7b", ["a", "b"], "serves no model 'deepseek-7b': it serves a, b"),
        ("deepseek-7b", [], "it serves none"),
        (
            "deepseek-7b",
            ["x/DeepSeek-R1-Distill-Qwen-7B", "y/DeepSeek-R1-Distill-Qwen-7B"],
            "serves 'deepseek-7b' as x/DeepSeek-R1-Distill-Qwen-7B, y/DeepSeek-R1-Distill-Qwen-7B: say which, "
            "with --intern NAME",
        ),
    ],
)
async def test_another_model_is_refused_with_what_to_pass(
    stubs: list[Stub], asked: str, listed: list[str], said: str
) -> None:
    stubs[0].models = [{"id": name} for name in listed]
    model = load_model(asked, role="intern", endpoint=stubs[0].url)
    with pytest.raises(EndpointError) as caught:
        await model.probe()
    assert str(caught.value).startswith(f"127.0.0.1:{stubs[0].port} serves ")
    assert str(caught.value).endswith(said)
    await model.aclose()
