"""Delegate with native tools: what an endpoint is sent, what counts as a call, and which way is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stub import Reply, Stub

from tandem.config import SolveOptions
from tandem.engine import Tandem
from tandem.errors import CapabilityError, TandemError, UsageError
from tandem.insight import answer_messages
from tandem.models.base import TEMPLATE
from tandem.models.cache import ResponseCache
from tandem.models.call import Recorder
from tandem.models.fake import FakeModel, Script
from tandem.models.openai import OpenAIModel
from tandem.runs.estimate import estimate
from tandem.runs.journal import Journal
from tandem.spec import Continuation, ModelSpec
from tandem.strategies import make_strategy
from tandem.strategies.delegate_protocol import TOOL
from tandem.tools import write_call
from tandem.types import Problem, Solution

PROBLEM = Problem.from_text("What is 17*23?", task="math")
SMALL = "What is 17 times 20?"
BOXED = "So it is \\boxed{391}"
FUNCTION = {
    "name": "ask",
    "description": "Ask the assistant who does the calculations. It cannot see the problem.",
    "parameters": {
        "type": "object",
        "properties": {
            "question": {
                "type": "string",
                "description": "a small question that says all the facts and numbers it needs",
            }
        },
        "required": ["question"],
    },
}
FINAL = Reply(tokens=tuple(BOXED.split(" ")))


pytestmark = pytest.mark.usefixtures("clean")


def calls(*arguments: str, name: str = "ask", place: int = 0, id: str = "a") -> tuple[str, ...]:
    """Return a call's chunks: the name with the first piece of the arguments, then the others."""
    first = {"index": place, "id": id, "type": "function", "function": {"name": name, "arguments": arguments[0]}}
    rest = [{"index": place, "function": {"arguments": piece}} for piece in arguments[1:]]
    return tuple(json.dumps([part]) for part in (first, *rest))


def asks(question: str = SMALL, **fields: Any) -> Reply:
    given = {"tokens": (), "finish": "tool_calls", "calls": calls(json.dumps({"question": question}))}
    return Reply(**(given | fields))


def intern_with(reply: str = "340") -> FakeModel:
    model = FakeModel(name="small")
    model.answer = lambda request: reply
    return model


async def run(
    stub: Stub,
    intern: FakeModel | None = None,
    *,
    tools: bool = True,
    strategy: str = "delegate",
    recorder: Recorder | None = None,
    **options: Any,
) -> Solution:
    spec = ModelSpec(name="stub", continuation=Continuation.SECTIONS, tools=tools)
    mentor = OpenAIModel(spec, base_url=stub.url, retries=1)
    try:
        tandem = Tandem(mentor, intern or intern_with(), strategy=strategy, **options)
        events = [event async for event in tandem.astream(PROBLEM, recorder=recorder)]
    finally:
        await mentor.aclose()
    assert isinstance(events[-1], Solution)
    return events[-1]


def reasons(solution: Solution) -> list[str]:
    return [decision.reason for decision in solution.trace]


def bodies(stub: Stub) -> list[dict[str, Any]]:
    return [chat.body for chat in stub.chats]


async def test_what_is_sent_turn_by_turn(stub: Stub) -> None:
    stub.script(asks(tokens=("First", ":")), FINAL)
    intern = intern_with()
    solution = await run(stub, intern)
    first, second = bodies(stub)
    for body in (first, second):
        assert body["tools"] == [{"type": "function", "function": FUNCTION}]
        assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False) and "stop" not in body
    assert "What is 17*23?" in first["messages"][0]["content"] and "<ask>" not in str(first)
    assert second["messages"][0] == first["messages"][0]
    said, replied = second["messages"][1:]
    (call,) = said["tool_calls"]
    assert (said["role"], said["content"], call["type"], call["function"]["name"]) == (
        *("assistant", "First:"),
        *("function", "ask"),
    )
    assert json.loads(call["function"]["arguments"]) == {"question": SMALL}
    assert replied == {"role": "tool", "tool_call_id": call["id"], "content": "340"} and len(call["id"]) == 9
    assert intern.calls[0].messages == answer_messages(Problem.from_text(SMALL, task="math"))
    assert (solution.answer, solution.level, reasons(solution)) == ("391", "delegate", [f"asks: {SMALL}", "answers"])
    assert solution.trace[-1].signals == {"valid_calls": 1, "turns": 2}


async def test_a_call_alone_has_no_content_and_every_call_an_id_of_its_own(stub: Stub) -> None:
    stub.script(asks(), asks("And 17 times 3?", finish="stop"), FINAL)
    await run(stub)
    messages = bodies(stub)[2]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert messages[1]["content"] is None
    ids = [m["tool_calls"][0]["id"] for m in messages[1::2]]
    assert len(set(ids)) == 2 and ids == [m["tool_call_id"] for m in messages[2::2]]


async def test_the_last_turn_is_the_problem_with_the_replies_as_notes(stub: Stub) -> None:
    stub.script(asks(), asks(), asks(), FINAL)
    solution = await run(stub)
    assert ["tools" in body for body in bodies(stub)] == [True, True, True, False]
    last = bodies(stub)[3]
    assert not {"tool_choice", "parallel_tool_calls"} & last.keys()
    (told,) = last["messages"]
    assert told["content"].startswith(answer_messages(PROBLEM)[-1].content)
    assert told["content"].endswith(f"\n- {SMALL}\n  340")
    assert reasons(solution)[-1] == "has to answer" and solution.answer == "391"


async def test_a_conversation_without_end_has_fifteen_turns(stub: Stub) -> None:
    stub.respond = lambda body: asks(f"What is {len(body['messages'])} + 1?", finish="tool_calls")
    solution = await run(stub)
    assert len(stub.chats) == 15 and [("tools" in body) for body in bodies(stub)] == [True] * 14 + [False]
    assert solution.trace[-1].signals == {"valid_calls": 14, "turns": 15}


@pytest.mark.parametrize(
    "chunks",
    [
        calls('{"ques', 'tion": "What is ', '17 times 20?"', "}"),
        (*calls(json.dumps({"question": SMALL})), *calls('{"question": "Another?"}', place=1, id="b")),
        (*calls(json.dumps({"question": SMALL})), *calls('{"question": "Another?"}', place=0, id="b")),
        (json.dumps([{"function": {"name": "ask", "arguments": {"question": SMALL}}}]),),
        (
            *calls('{"question":'),
            *(json.dumps([{"index": 0, "id": "", "function": {"name": "ask", "arguments": "%s"}}]),),
        ),
    ],
    ids=["pieces", "two", "two in one place", "an object", "the name twice"],
)
async def test_how_servers_send_a_call(stub: Stub, chunks: tuple[str, ...]) -> None:
    chunks = tuple(chunk.replace("%s", f' \\"{SMALL}\\"}}') for chunk in chunks)
    stub.script(asks(calls=chunks), FINAL)
    intern = intern_with()
    solution = await run(stub, intern)
    assert [request.messages[-1].content for request in intern.calls] == [
        answer_messages(Problem.from_text(SMALL, task="math"))[-1].content
    ]
    assert reasons(solution)[0] == f"asks: {SMALL}"
    assert len(bodies(stub)[1]["messages"][1]["tool_calls"]) == 1


@pytest.mark.parametrize(
    "chunks",
    [
        calls('{"question": "What'),
        calls(""),
        calls('{"question": " "}'),
        calls('{"query": "x"}'),
        calls('{"question": "x"}', name="search"),
        calls('{"question": "x"}', name=""),
        ("[{}]",),
    ],
)
async def test_a_call_that_cannot_be_read_is_one_in_vain(stub: Stub, chunks: tuple[str, ...]) -> None:
    stub.script(asks(calls=chunks), FINAL)
    intern = intern_with()
    solution = await run(stub, intern)
    assert not intern.calls and reasons(solution) == ["asks, unanswered: (nothing)", "answers"]
    assert solution.trace[-1].signals["valid_calls"] == 0
    said, replied = bodies(stub)[1]["messages"][1:]
    # A server that reads the arguments of earlier calls must find JSON there, and a name.
    assert said["tool_calls"][0]["function"] == {"name": "ask", "arguments": '{"question": ""}'}
    assert replied["content"] == "There was no question. Call ask with a question, or give the final answer."


async def test_an_answer_before_a_call_ends_the_conversation(stub: Stub) -> None:
    stub.script(asks(tokens=(BOXED, ".")))
    solution = await run(stub)
    assert (solution.text, solution.answer, len(stub.chats)) == (f"{BOXED}.", "391", 1)


async def test_thinking_that_a_call_ends_is_closed(stub: Stub) -> None:
    stub.script(asks(thinking=("Hm", ".")), FINAL)
    await run(stub)
    assert bodies(stub)[1]["messages"][1]["content"] == "<think>Hm.</think>"


async def test_every_hop_is_charged_as_the_server_reports_it(stub: Stub) -> None:
    stub.script(asks(prompt_tokens=100, call_tokens=30), asks("3?", prompt_tokens=150, call_tokens=20), FINAL)
    solution = await run(stub, mentor_max_tokens=80)
    entries = solution.ledger.entries
    assert [(e.role, e.usage.prompt, e.usage.completion) for e in entries if e.role == "mentor"] == [
        *[("mentor", 100, 30), ("mentor", 150, 20)],
        ("mentor", 12, 4),
    ]
    assert len(entries) == 5 and all(e.usage.source == "reported" for e in entries)
    assert [body["max_tokens"] for body in bodies(stub)] == [80, 50, 30]  # a call came in one chunk


async def test_what_no_server_reports_is_counted(stub: Stub) -> None:
    pieces = calls('{"question":', ' "What is ', '17 times 20?"}')
    stub.script(asks(usage=False, calls=pieces), FINAL)
    usage = (await run(stub)).ledger.entries[0].usage
    assert (usage.source, usage.completion) == ("counted", 3) and usage.prompt > 60


@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_a_call_that_breaks_off_is_asked_for_anew(stub: Stub, fault: Any) -> None:
    broken = calls('{"question": "What is')
    stub.script(asks(finish=None, calls=broken) if fault == "cut" else asks(fault=fault), asks(), FINAL)
    intern = intern_with()
    solution = await run(stub, intern)
    assert len(stub.chats) == 3 and len(intern.calls) == 1 and solution.answer == "391"
    assert [e.error is None for e in solution.ledger if e.role == "mentor"] == [False, True, True]


async def test_a_whole_call_that_ends_without_a_reason_is_a_call(stub: Stub) -> None:
    stub.script(asks(finish=None), FINAL)
    solution = await run(stub)
    assert len(stub.chats) == 2 and solution.answer == "391"


async def test_a_server_that_knows_no_parallel_calls(stub: Stub) -> None:
    refuses = ("parallel_tool_calls",)
    stub.script(asks(refuses=refuses), asks(refuses=refuses), FINAL)
    assert (await run(stub)).answer == "391"
    assert ["parallel_tool_calls" in body for body in bodies(stub)] == [True, False, False]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        (400, "model does not support tools"),
        (404, "No endpoints found that support tool use."),
        (500, "tools param requires --jinja flag"),
        (400, "Function tools with reasoning_effort are not supported for gpt-6-sol in /v1/chat/completions."),
    ],
)
async def test_a_server_without_tools_is_named_with_what_to_do(stub: Stub, status: int, said: str) -> None:
    stub.default = Reply(status=status, error=said)
    with pytest.raises(CapabilityError, match=r"'stub' takes no tools here, use --strategy delegate:text \(.*tool"):
        await run(stub)
    assert len(stub.chats) == 1


async def test_another_complaint_is_not_about_tools(stub: Stub) -> None:
    stub.default = Reply(status=400, error="This model's maximum context length is 8192 tokens, 9 of them in the tools")
    with pytest.raises(TandemError, match=r"^the prompt is too long"):
        await run(stub)


@pytest.mark.parametrize(("strategy", "tools"), [("delegate:text", True), ("delegate", False)])
async def test_the_text_protocol_is_as_it_was(stub: Stub, strategy: str, tools: bool) -> None:
    stub.script(Reply(tokens=("<ask>", SMALL)), FINAL)
    solution = await run(stub, strategy=strategy, tools=tools)
    first, second = bodies(stub)
    assert "<ask>" in first["messages"][0]["content"] and first["stop"] == ["</ask>"] and "tools" not in first
    assert second["messages"][1:] == [
        {"role": "assistant", "content": f"<ask>{SMALL}</ask>"},
        {"role": "user", "content": "Reply: 340"},
    ]
    assert solution.answer == "391"


async def test_native_tools_may_be_asked_for_where_nothing_is_known_of_them(stub: Stub) -> None:
    stub.script(asks(), FINAL)
    assert (await run(stub, strategy="delegate:native", tools=False)).trace[-1].signals["valid_calls"] == 1


@pytest.mark.parametrize("argument", ["", "tools", "native:text"])
def test_a_way_that_there_is_not(argument: str) -> None:
    with pytest.raises(UsageError, match="delegate:native or delegate:text"):
        make_strategy(f"delegate:{argument}")


async def test_a_cache_gives_native_calls_again(stub: Stub, tmp_path: Path) -> None:
    stub.script(asks(tokens=("First",), call_tokens=30), FINAL)
    first = await run(stub, recorder=ResponseCache(tmp_path / "cache"))
    again = await run(stub, recorder=ResponseCache(tmp_path / "cache"))
    assert len(stub.chats) == 2 and again.trace == first.trace and again.text == first.text
    assert [e.usage for e in again.ledger] == [e.usage for e in first.ledger]
    assert not any(e.paid for e in again.ledger)


async def test_a_journal_gives_native_calls_again(stub: Stub, tmp_path: Path) -> None:
    stub.script(asks(tokens=("First",)), Reply(status=400, error="no"), FINAL)
    journal = Journal(tmp_path)
    with pytest.raises(TandemError):
        await run(stub, recorder=journal)
    journal.close_file()
    resumed = Journal(tmp_path)
    solution = await run(stub, recorder=resumed)
    resumed.close_file()
    assert resumed.again == 2 and len(stub.chats) == 3 and solution.answer == "391"
    assert bodies(stub)[2] == bodies(stub)[1]


def fake(*turns: str, **script: Any) -> FakeModel:
    model = FakeModel(Script(**({"tools": True} | script)), name="large")
    model.answer = lambda request: turns[min(len(model.calls), len(turns)) - 1]
    return model


def test_a_fake_mentor_calls_in_its_text() -> None:
    mentor = fake("First:" + write_call("ask", json.dumps({"question": SMALL})), BOXED)
    with Tandem(mentor, intern_with(), strategy="delegate") as tandem:
        solution = tandem.solve(PROBLEM)
        assert tandem.plan().describe()["way"] == "native"
    assert solution.answer == "391" and solution.trace[-1].signals["valid_calls"] == 1
    assert [request.tools for request in mentor.calls] == [TOOL, TOOL]
    first, second = (e.usage.prompt for e in solution.ledger if e.role == "mentor")
    assert first > len(TOOL.text.split()) and second - first == len(mentor.calls[1].messages[1].text.split()) + 1


def test_a_fake_mentor_without_tools() -> None:
    with Tandem(fake(BOXED, tools=False), intern_with(), strategy="delegate:native") as tandem:
        assert "way" not in tandem.plan().describe()
        with pytest.raises(CapabilityError, match="delegate:text"):
            tandem.solve(PROBLEM)
    with Tandem(fake(BOXED, tools=False), intern_with(), strategy="delegate") as tandem:
        assert "way" not in tandem.plan().describe()


def test_the_tool_has_room_in_a_context_that_fills_up() -> None:
    mentor = fake()
    mentor.answer = lambda r: (
        BOXED if r.tools is None else write_call("ask", json.dumps({"question": f"What is {len(mentor.calls)} + 1?"}))
    )
    mentor.spec = mentor.spec.model_copy(update={"context": 2300})
    with Tandem(mentor, intern_with("340 " * 400), strategy="delegate") as tandem:
        solution = tandem.solve(PROBLEM)
    assert 2 < len(mentor.calls) < 15 and solution.answer == "391"
    for request in mentor.calls:
        said = sum(mentor.count(m.text) for m in request.messages)
        assert said + request.max_tokens + TEMPLATE + TOOL.room <= 2300


def test_the_estimate_covers_native_tools() -> None:
    mentor = fake()
    mentor.answer = lambda r: "so " * 4 + write_call("ask", json.dumps({"question": f"{len(mentor.calls)} + 1?"}))
    with Tandem(mentor, intern_with("340 " * 50), strategy="delegate", mentor_max_tokens=600) as tandem:
        most = estimate(tandem.plan(), [PROBLEM])["at_most"]
        ledger, planned = tandem.solve(PROBLEM).ledger, tandem.plan().calls("math")
        in_text = tandem.plan(SolveOptions(strategy="delegate:text")).calls("math")
    read = [(call.read_tokens, text.read_tokens) for call, text in zip(planned, in_text, strict=True)]
    assert [native - text for native, text in read[::2]] == [TOOL.room] * 15
    assert len(ledger.entries) == len(planned) and ledger.mentor_tokens <= most["mentor_tokens"]
    alone = sum(mentor.count(m.content) for m in answer_messages(PROBLEM))
    assert all(e.usage.prompt <= alone + c.read_tokens for c, e in zip(planned, ledger.entries, strict=True))
