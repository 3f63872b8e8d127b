"""Functions for a model in this process: by its own template where that knows calls, else in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tandem import Tandem
from tandem.models.base import Request
from tandem.models.transformers import TransformersModel
from tandem.models.transformers.chat import begun_call, conversation
from tandem.spec import ModelSpec
from tandem.tools import FunctionCall, ToolUse, write_call
from tandem.types import Message, Problem

WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TIME = {"name": "get_time"}
TOOLS = ToolUse(functions=(WEATHER, TIME))
SYSTEM = Message(role="system", content="Be brief.")
ASKED = Message(role="user", content="What is the weather in Paris?")
HISTORY = (
    SYSTEM,
    ASKED,
    Message(
        role="assistant",
        content="Let me see.",
        tool_calls=(FunctionCall(id="a", name="get_weather", arguments='{"city": "Paris"}'),),
    ),
    Message(role="tool", content="21 degrees", tool_call_id="a"),
)
# In the manner of the templates of models that call in our form: functions in the system's message, calls as objects.
CALLING = (
    "{% if tools %}[tools]{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for call in m.tool_calls or [] %}"
    '<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
PLAIN = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"


class Tokenizer:
    """The part of a tokenizer that makes a prompt of messages, as Transformers renders a template."""

    def __init__(self, template: str | None) -> None:
        self.chat_template = template

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> str:
        environment = ImmutableSandboxedEnvironment()
        environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
        return environment.from_string(self.chat_template or "").render(messages=messages, **options)


def asking(*messages: Message, tools: ToolUse | None = TOOLS, **fields: Any) -> Request:
    return Request(messages or (ASKED,), "answer", 48, tools=tools, **fields)


def test_a_template_that_knows_calls_has_functions_and_history_in_its_own_form() -> None:
    text = conversation(Tokenizer(CALLING), asking(*HISTORY))
    head, _, rest = text.partition("[system]")
    assert head.count('"type": "function"') == 2 and '"name": "get_time"' in head
    call = write_call("get_weather", '{"city": "Paris"}')
    assert rest == f"Be brief.[user]{ASKED.content}[assistant]Let me see.{call}[tool]21 degrees[assistant]"
    none = conversation(Tokenizer(CALLING), asking(*HISTORY, tools=TOOLS.model_copy(update={"choice": "none"})))
    assert none == f"[system]{rest}"


@pytest.mark.parametrize("template", [PLAIN, None])
def test_a_template_that_knows_none_has_all_in_words(template: str | None) -> None:
    text = conversation(Tokenizer(template), asking(*HISTORY))
    assert '"name": "get_time"' in text and "Be brief.\n\n" in text and "To call a function, write <tool_call>" in text
    assert write_call("get_weather", '{"city": "Paris"}') in text
    assert "<tool_response>\n21 degrees\n</tool_response>" in text and "[tool]" not in text and "tool:" not in text
    history = conversation(Tokenizer(template), asking(*HISTORY, tools=None))
    assert "get_time" not in history and "21 degrees" in history
    alone = Tokenizer(template)
    assert conversation(alone, asking(tools=None)) == conversation(
        alone, asking(tools=TOOLS.model_copy(update={"choice": "none"}))
    )


def test_arguments_that_are_no_object_stay_as_they_are() -> None:
    broken = HISTORY[2].model_copy(update={"tool_calls": (FunctionCall(id="a", name="f", arguments="{oh"),)})
    assert '"arguments": "{oh"' in conversation(Tokenizer(CALLING), asking(ASKED, broken, HISTORY[3]))


def test_how_a_call_begins_that_must_be_made() -> None:
    must = TOOLS.model_copy(update={"choice": "required"})
    assert begun_call(asking(tools=must)) == '<tool_call>\n{"name": "'
    named = must.model_copy(update={"named": "get_time"})
    assert begun_call(asking(tools=named)) == '<tool_call>\n{"name": "get_time", "arguments": {'
    assert begun_call(asking(tools=named, prefix="So")) == begun_call(asking()) == begun_call(asking(tools=None)) == ""


@pytest.fixture(scope="module")
def pair(smollm2: Path) -> Iterator[Tandem]:
    model = TransformersModel(ModelSpec(name="smollm2-135m"), smollm2, device="cpu")
    with Tandem(model, model, strategy="intern-only") as tandem:
        yield tandem


@pytest.mark.weights
def test_a_real_model_calls_the_function_that_it_must_call(pair: Tandem) -> None:
    tools = TOOLS.model_copy(update={"choice": "required", "named": "get_weather"})
    found = pair.solve(Problem(id="p", messages=(ASKED,), tools=tools), intern_max_tokens=48)
    (call,) = found.tool_calls or ()
    assert call.name == "get_weather" and call.arguments.startswith("{")
    assert found.text.startswith('<tool_call>\n{"name": "get_weather"')
    if not found.truncated:
        assert isinstance(json.loads(call.arguments), dict)
    usage = found.ledger.entries[0].usage
    assert usage.completion <= 48 and usage.prompt > 100  # the functions are in the prompt


@pytest.mark.weights
def test_a_real_model_reads_a_reply(pair: Tandem) -> None:
    found = pair.solve(Problem(id="p", messages=HISTORY, tools=TOOLS), intern_max_tokens=24)
    assert found.content or found.tool_calls
