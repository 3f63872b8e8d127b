"""Which key is sent to which endpoint, and what a user is told who has set the wrong one."""

from __future__ import annotations

import pytest
from stub import Stub

from tandem.errors import EndpointError
from tandem.models.base import Request
from tandem.models.load import load_model
from tandem.models.openai.api_keys import ApiKeys
from tandem.types import Message

SERVICES = ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY")
NAMES = (*SERVICES, "TANDEM_API_KEY", "TANDEM_MENTOR_API_KEY", "TANDEM_INTERN_API_KEY")
ALL = {name: f"the {name} value" for name in NAMES}
ASK = Request((Message(role="user", content="Hello"),), "answer", 10)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("host", "environment", "sent"),
    [
        ("api.openai.com", ALL, "OPENAI_API_KEY"),
        ("openrouter.ai", ALL, "OPENROUTER_API_KEY"),
        ("api.anthropic.com", ALL, "ANTHROPIC_API_KEY"),
        ("api.anthropic.com", {"OPENAI_API_KEY": "x", "TANDEM_API_KEY": "y"}, None),
        ("generativelanguage.googleapis.com", ALL, "GEMINI_API_KEY"),
        ("storage.googleapis.com", {"GEMINI_API_KEY": "x"}, None),
        ("api.deepseek.com", ALL, "DEEPSEEK_API_KEY"),
        ("api.deepseek.com.evil.org", {"DEEPSEEK_API_KEY": "x"}, None),
        ("openai.com.evil.org", {"OPENAI_API_KEY": "x"}, None),
        ("notopenai.com", {"OPENAI_API_KEY": "x"}, None),
        ("api.example.org", ALL, "TANDEM_MENTOR_API_KEY"),
        ("api.example.org", {"TANDEM_API_KEY": "x", "OPENAI_API_KEY": "y"}, "TANDEM_API_KEY"),
        ("api.example.org", {"TANDEM_INTERN_API_KEY": "x", "OPENAI_API_KEY": "y"}, None),
        ("10.0.0.7", {"OPENAI_API_KEY": "x"}, None),
        ("127.0.0.1", {"OPENAI_API_KEY": "x"}, "OPENAI_API_KEY"),
        ("localhost", {"OPENAI_API_KEY": "x"}, "OPENAI_API_KEY"),
        ("::1", {"TANDEM_MENTOR_API_KEY": "x", "OPENAI_API_KEY": "y"}, "TANDEM_MENTOR_API_KEY"),
        ("api.example.org", {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "https://api.example.org/v1"}, "OPENAI_API_KEY"),
        ("api.example.org", {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "https://b.example.org/v1"}, None),
        ("api.openai.com", {"TANDEM_API_KEY": "for another"}, None),
    ],
)
def test_a_key_goes_to_its_own_host_only(
    host: str, environment: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ApiKeys(host, "mentor").key == (environment[sent] if sent else "")


async def test_each_role_has_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_MENTOR_API_KEY", "for the mentor")
    monkeypatch.setenv("TANDEM_API_KEY", "for both")
    async with Stub() as stub:
        for role in ("mentor", "intern"):
            model = load_model("gpt-4o", role=role, endpoint=stub.url)  # type: ignore[arg-type]
            await model.complete(ASK)
            await model.aclose()
        assert [s.headers["authorization"] for s in stub.chats] == ["Bearer for the mentor", "Bearer for both"]


async def test_a_refused_key_names_the_variable_of_the_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    async with Stub(key="another") as stub:
        model = load_model("stub", role="intern", endpoint=stub.url)
        with pytest.raises(EndpointError, match=r"wants another key .* set TANDEM_INTERN_API_KEY or OPENAI_API_KEY"):
            await model.complete(ASK)
        await model.aclose()


def test_a_key_that_is_kept_back_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ApiKeys("api.example.org", "mentor").advice == "set TANDEM_MENTOR_API_KEY"
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    advice = ApiKeys("api.example.org", "mentor").advice
    assert advice.startswith("set TANDEM_MENTOR_API_KEY (OPENAI_API_KEY goes to openai.com, this machine")
    assert "a key" not in advice


def test_no_key_is_left_in_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ALL.items():
        monkeypatch.setenv(name, value)
    text = ApiKeys("api.example.org", "mentor").redact(
        " / ".join(ALL[n] for n in NAMES if n != "TANDEM_INTERN_API_KEY")
    )
    assert "value" not in text
