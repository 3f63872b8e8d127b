"""The demo: what a stage knows of who wrote what, the picture at any size, the command with and without a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import FAKES, Cli, dataset, script
from rich.console import Console

from tandem import Tandem
from tandem.cli.demo_stage import Block, Stage, written
from tandem.cli.demo_view import DemoView
from tandem.ledger import Entry, Usage
from tandem.models.base import Reads
from tandem.models.fake import FakeModel, Rule, Script
from tandem.spec import ModelSpec, Prices
from tandem.sufficiency.policy import Policy
from tandem.types import Decision, Solution

pytestmark = pytest.mark.slow

QUESTION = "What is 17*23?"
INSIGHT = "Goal: the product.\nPlanning: 17*20 and 17*3.\nRetrieval: none.\nAction: add them."


def fake(*rules: Rule, **fields: Any) -> FakeModel:
    return FakeModel(Script(rules=rules, **fields))


def stage(**fields: Any) -> Stage:
    given: dict[str, Any] = {"strategy": "tandem", "names": {"mentor": "big", "intern": "small"}, "question": QUESTION}
    return Stage(**(given | fields))


async def performed(engine: Tandem) -> Stage:
    found = stage(strategy=engine.plan().strategy_name)
    found.attach(engine)
    async with engine:
        async for event in engine.astream(QUESTION, ledger=found.ledger, recorder=found):
            found.take(event)
    return found


def texts(found: Stage, role: Any) -> list[tuple[str, str]]:
    return [(block.purpose, block.text) for block in written(found, role)]


# What a stage knows


async def test_each_model_s_text_is_its_own() -> None:
    mentor, intern = fake(Rule(text=INSIGHT)), fake(Rule(text="It is \\boxed{391}"))
    found = await performed(Tandem(mentor, intern, strategy="fixed:low=40"))
    assert texts(found, "mentor") == [("insight", INSIGHT)]  # "Goal:" was put into its mouth, and is shown
    assert texts(found, "intern") == [("answer", "It is \\boxed{391}")]
    assert found.solution and found.solution.answer == "391" and all(block.closed for block in found.blocks)
    assert (found.tokens("mentor"), found.tokens("intern")) == (
        found.solution.ledger.mentor_tokens,
        found.solution.ledger.intern_tokens,
    )


async def test_an_insight_in_several_calls_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def confident(text: str) -> Rule:
        return Rule(text=text, confidence=0.97)

    how: dict[str, Any] = {"effort": "none,low=4,high=9", "pace": "thrifty", "draft_tokens": 2}
    engine = Tandem(fake(Rule(text=INSIGHT)), fake(confident("one two three")), **how)
    monkeypatch.setattr(Policy, "verdict", lambda _, *a, **__: ("go_on" if a[2] else "stop", "told to"))
    found = await performed(engine)
    assert [block.purpose for block in found.blocks] == ["probe", "insight", "probe", "insight", "answer"]
    ((purpose, text),) = texts(found, "mentor")
    assert purpose == "insight" and INSIGHT.startswith(text) and len(text.split()) == 10
    assert texts(found, "intern") == [("probe", "one two"), ("probe", "one two"), ("answer", "one two three")]
    assert [decision.action for decision in found.decisions] == ["go_on", "go_on", "stop"]


async def test_tokens_in_flight_are_seen_before_they_are_booked() -> None:
    engine = Tandem(fake(), fake(Rule(text="one two three four")), strategy="intern-only")
    found = stage()
    found.attach(engine)
    seen = []
    async with engine:
        async for _ in engine.astream(QUESTION, ledger=found.ledger, recorder=found):
            seen.append((found.tokens("intern"), found.ledger.intern_tokens))
    assert seen == [(1, 0), (2, 0), (3, 0), (4, 0), (4, 4)]


async def test_speed_slows_a_model_down() -> None:
    engine = Tandem(fake(), fake(Rule(text="one two three four five")), strategy="intern-only")
    found = stage(speed=50.0)
    found.attach(engine)
    began = time.monotonic()
    async with engine:
        async for event in engine.astream(QUESTION, recorder=found):
            found.take(event)
    assert time.monotonic() - began >= 5 / 50
    assert isinstance(engine.mentor, Reads)  # what a model can do besides is not lost
    assert (await engine.intern.read("a b c")).pieces  # type: ignore[attr-defined]


# The picture


def drawn(found: Stage, width: int, height: int, *, whole: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(DemoView(found, console, whole=whole))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def busy() -> Stage:
    """A mentor with more text than fits, an intern at work behind a discarded draft."""
    long = " ".join(f"word{n}" for n in range(3000))
    found = stage(question="What is to be found? " * 40)
    found.blocks += [
        Block("mentor", "insight", long, 400, closed=True),
        Block("intern", "probe", "a poor draft", 3, closed=True),
        Block("intern", "answer", "It is", 2),
    ]
    found.decisions += [Decision("none", "go_on", 0.25, 0.75, reason="insufficient")] * 9
    usage = Usage(prompt=10, completion=400)
    spec = ModelSpec(name="big", local=False, prices=Prices(input=1.0, output=10.0))
    found.ledger.entries.append(Entry.of(spec, "mentor", "insight", usage, seconds=1.0))
    return found


@pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24), (79, 24), (40, 20), (200, 60)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    lines = drawn(busy(), width, height)
    assert len(lines) <= height and max(map(len, lines)) <= width
    shown = "\n".join(lines)
    tops = [line for line in lines if line.startswith("╭")]
    assert len(tops) == (1 if width >= 80 else 2) and "mentor 400 tokens" in shown and "intern 2 tokens" in shown
    assert "word2999" in shown and "word0 " not in shown  # the end of the text is what is being written
    assert "so far: " in shown and "US$ 0.0040" in shown and re.search(r"\d earlier decisions", shown)
    assert "It is" in shown and "writing, 2 tokens …" in shown and "a poor draft" in shown


def test_the_last_picture_has_everything() -> None:
    found = busy()
    shown = "\n".join(drawn(found, 100, 24, whole=True))
    assert "word0 " in shown and "word2999" in shown and shown.count("insufficient") == 9
    assert shown.count("What is to be") + shown.count("found?") >= 40


def test_a_meter_is_filled_by_the_sufficiency_and_marked_at_the_threshold() -> None:
    found = stage()
    found.decisions += [
        Decision("none", "go_on", 0.25, 0.75, reason="insufficient"),
        Decision("low", "stop", 1.0, 1.0, reason="sufficient"),
        Decision("hint", "go_on", reason="planned"),
    ]
    first, second, third = (line for line in drawn(found, 110, 30) if "->" in line)
    assert first.startswith("[█████░░░░░░░░░░┃░░░░]   none  sufficiency 0.25 against 0.75  ->  go on (insufficient)")
    assert second.startswith("[███████████████████┃]    low")
    assert third.startswith(" " * 22) and third.endswith("hint    ->  go on (planned)")


def test_the_end_names_answer_and_verdict_and_estimate() -> None:
    found = stage(verdict=False, reference="391", estimate="estimate: none to speak of")
    found.take(Solution(problem_id="p", strategy="tandem", answer="392", text="392", level="low", answered_by="intern"))
    shown = "\n".join(drawn(found, 100, 30))
    assert "answer: 392   by the intern at level low   wrong (the reference: 391)" in shown
    assert "in all: " in shown and "so far" not in shown and "estimate: none to speak of" in shown
    assert re.search(r"╭─ +intern 0 tokens answered", shown.replace("╮ ╭", "╮\n╭"))


def test_nothing_that_a_model_writes_commands_the_terminal(cli: Cli, tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07 clean\rover \x9b31m"
    found = stage(question=evil, strategy="s\x1b[1m")
    found.blocks.append(Block("intern", "answer", evil, 3))
    found.decisions.append(Decision("none", "stop", 0.5, reason=evil))
    found.take(Solution(problem_id="p", strategy="s", answer=evil, text=evil, level="none", answered_by="intern"))
    for lines in (drawn(found, 100, 30), drawn(found, 60, 30, whole=True)):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", "\n".join(lines))
    speaker = script(tmp_path / "evil.json", rules=[{"text": f"Goal: {evil} the answer is \\boxed{{{evil}}}"}])
    for command in ("demo", "solve"):
        outcome = cli(command, "--mentor", speaker, "--intern", speaker, "--strategy", "fixed:low", QUESTION)
        assert outcome.code == 0 and "clean" in outcome.out and not re.search(r"[\x1b\x07\r\x9b]", outcome.out)


# The command without a terminal


def test_without_a_terminal_it_is_the_plain_view(cli: Cli) -> None:
    outcome = cli("demo", *FAKES)
    assert (outcome.code, outcome.err) == (0, "")
    assert "answer: 48" in outcome.out and "synthetic" in outcome.out and "╭" not in outcome.out
    again = cli("demo", *FAKES, "--strategy", "fixed:low", "--problem-id", "starter-02")
    assert "Goal: find the quantity" in again.out and "answer: -1" in again.out
    assert cli("demo", *FAKES, "--strategy", "mentor-only", QUESTION).out.count("by the mentor") == 1


def test_what_it_shows_can_come_from_another_data_set(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 30)
    assert "answer: 7" in cli("demo", *FAKES, "--dataset", own, "--problem-id", "q7").out
    outcome = cli("demo", *FAKES, "--dataset", own, "--problem-id", "q77")
    assert outcome.code == 2 and outcome.err.startswith(f"tandem: there is no problem 'q77' in {own}. Did you mean q7")
    outcome = cli("demo", *FAKES, "--dataset", own, "--problem-id", "zzzz")
    assert outcome.err.endswith("Its 30 problems begin with q0, q1, q2.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([QUESTION, "--problem-id", "starter-01"], "one of them"),
        ([QUESTION, "--replay", "out"], "one of them"),
        (["--replay", "nowhere"], "nowhere holds no run"),
        ([*FAKES, "--strategy", "tandm"], "Did you mean tandem"),
        ([*FAKES, " "], "the problem is empty"),
        (["--mentor", "fake", QUESTION], "name both models, or neither"),
        (["--tour", QUESTION], "--tour has problems of its own"),
        (["--tour", "--replay", "out"], "--tour has problems of its own"),
        (["--speed", "0"], "0"),
    ],
)
def test_bad_usage(cli: Cli, arguments: list[str], said: str) -> None:
    outcome = cli("demo", *arguments)
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and said in outcome.err


# A replay


def test_a_replay_shows_what_the_record_has_and_asks_no_model(cli: Cli, tmp_path: Path) -> None:
    unlucky = {"when": "q1 ", "text": "x", "fault": "no luck"}
    intern = script(tmp_path / "intern.json", rules=[unlucky])
    rows = [{"id": f"q{i}", "problem": f"q{i} asks what {i}+0 is", "answer": str(i)} for i in range(3)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mentor = script(tmp_path / "mentor.json", rules=[])  # its insight has no number
    pair = ("--mentor", mentor, "--intern", intern, "--strategy", "fixed:low", "--dataset", "own.jsonl")
    assert cli("run", *pair, "--concurrency", "1", "--out", "out").code == 0
    (tmp_path / "intern.json").unlink()
    outcome = cli("demo", "--replay", "out")
    assert outcome.code == 0 and "Goal: find the quantity" in outcome.out and "answer: 0" in outcome.out
    assert "answer: 0" in cli("demo", "--replay", "out", "--problem-id", "q2").out
    outcome = cli("demo", "--replay", "out", "--problem-id", "q1")
    assert outcome.code == 2 and "q1 failed in out: no luck" in outcome.err
    outcome = cli("demo", "--replay", "out", "--problem-id", "q9")
    assert outcome.code == 2 and "there is no problem 'q9' in out. Did you mean q" in outcome.err


async def test_a_replay_s_decisions_stand_where_they_were_made(tmp_path: Path) -> None:
    from tandem.cli.demo_replay import _events
    from tandem.types import AnswerDelta, InsightDelta

    trace = [Decision("none", "go_on", 0.1, 0.5), Decision("low", "go_on", 0.2, 0.5, insight_tokens=2)]
    trace.append(Decision("high", "stop", 0.8, 0.5, insight_tokens=4))
    solution = Solution(
        problem_id="p",
        strategy="tandem",
        answer="5",
        text="it is 5",
        level="high",
        answered_by="intern",
        insight="a b c d",
        trace=trace,
        seconds=3.5,
    )
    found = stage(replayed=True)
    said: list[str] = []
    async for event in _events(found, solution, {"correct": True, "reference": "5"}):
        found.take(event)
        said.append(event.text if isinstance(event, InsightDelta | AnswerDelta) else type(event).__name__)
    order = ["Decision", "a", " b", "Decision", " c", " d", "Decision", "it", " is", " 5", "Solution"]
    assert said == order and texts(found, "mentor") == [("insight", "a b c d")]
    assert found.seconds == 3.5 and "right (the reference: 5)" in "\n".join(drawn(found, 100, 30))


# The command on a terminal


def on_a_terminal(tmp_path: Path, *arguments: str, interrupt: str = "") -> tuple[int, str]:
    """Run the demo on a terminal of its own; press Ctrl-C when `interrupt` is seen. Return exit code and output."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color", "TANDEM_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tandem", "demo", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path)
    os.close(theirs)
    said, sent, deadline = b"", False, time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 1.0)
        if not ready:
            continue
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        said += part
        if interrupt and not sent and interrupt.encode() in said:
            process.send_signal(signal.SIGINT)
            sent = True
    os.close(ours)
    return process.wait(timeout=60), said.decode(errors="replace")


ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def test_on_a_terminal_the_whole_screen_is_used_and_given_back(tmp_path: Path) -> None:
    code, said = on_a_terminal(tmp_path, *FAKES, "--strategy", "fixed:low", "--speed", "500")
    assert code == 0, said
    assert said.count(ENTER) == said.count(LEAVE) == 1
    during, after = said.split(LEAVE)
    assert "so far: " in during and "so far: " not in after
    left = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", after)
    for part in ("strategy fixed:low", "mentor", "Goal: find the quantity", "answer: 48", "right (the reference: 48)"):
        assert part in left
    assert (
        "the mentor alone (at most, by every answer at the cap of 4,096 tokens): " in " ".join(left.split())
        and "synthetic" in left
    )


@pytest.mark.usefixtures("heard")
def test_ctrl_c_gives_the_screen_back(tmp_path: Path) -> None:
    slow = script(tmp_path / "slow.json", token_seconds=0.2)
    code, said = on_a_terminal(
        tmp_path, "--mentor", slow, "--intern", slow, "--strategy", "intern-only", interrupt="Taking"
    )
    assert code == 130 and said.count(ENTER) == said.count(LEAVE) == 1
    assert "Traceback" not in said and said.rstrip().endswith("tandem: interrupted")


def test_a_failure_leaves_what_was_seen_and_one_line(tmp_path: Path) -> None:
    broken = script(tmp_path / "broken.json", rules=[{"text": "a b c d", "fault": "no luck", "fault_after": 2}])
    code, said = on_a_terminal(tmp_path, "--mentor", "fake", "--intern", broken, "--strategy", "intern-only")
    after = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.split(LEAVE)[1])
    assert code == 1 and after.rstrip().endswith("tandem: no luck") and "a b" in after and "Traceback" not in said


def test_a_replay_on_a_terminal(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 1)
    assert cli("run", *FAKES, "--strategy", "fixed:low", "--dataset", own, "--out", "out").code == 0
    code, said = on_a_terminal(tmp_path, "--replay", "out", "--speed", "500")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.split(LEAVE)[1])
    assert code == 0 and "replayed from a record" in said and "wrong (the reference: 0)" in shown


def test_a_question_is_found_beside_the_run_whatever_line_ends_it_has(tmp_path: Path) -> None:
    from tandem.cli.demo_replay import _question
    from tandem.runs.compare import write_problems
    from tandem.types import Message, Problem

    asked = "one\u2028two\x85three\nfour"
    write_problems(tmp_path, [Problem(id="p", messages=(Message(role="user", content=asked),))])
    assert _question(tmp_path / "tandem", "p") == asked
    assert _question(tmp_path / "tandem", "q") == "q" and _question(tmp_path / "a" / "b", "p") == "p"
