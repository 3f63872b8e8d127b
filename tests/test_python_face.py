"""The library as a program or a notebook uses it: names, arguments, errors, representations, bars."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
import types
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import tandem as package
from tandem import Ledger, Message, Problem, Solution, SolveOptions, Tandem, UsageError, asolve, solve
from tandem.config import CallSettings
from tandem.models.default_pair import DEMO_PAIR, default_pair
from tandem.models.fake import FakeModel, Rule, Script
from tandem.types import AnswerDelta, Decision

TOP = Path(__file__).parents[1]
QUESTION = "What is 17*23?"


def fakes(**settings: Any) -> Tandem:
    return Tandem("fake", "fake", **settings)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let nobody's own config file be read."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TANDEM_CONFIG", raising=False)
    return tmp_path


def test_every_public_name_is_listed_and_there() -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="Tandm"):
        _ = package.Tandm  # type: ignore[attr-defined]


def test_importing_the_package_and_listing_its_names_loads_no_model_code() -> None:
    program = (
        "import sys, tandem; dir(tandem); "
        "print([name for name in ('numpy', 'sklearn', 'pydantic', 'openai', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_the_keywords_of_a_call_are_the_fields_of_its_options() -> None:
    assert list(get_type_hints(CallSettings)) == [field.name for field in fields(SolveOptions)]


# --- questions


def test_a_question_is_a_text_a_problem_or_messages() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    asked = [QUESTION, Problem.from_text(QUESTION), messages, [Message(role="user", content=QUESTION)]]
    with fakes(strategy="intern-only") as tandem:
        found = tandem.solve_many(asked)
        assert [one.answer for one in found if isinstance(one, Solution)] == ["23"] * 4
        intern = tandem.intern
        assert isinstance(intern, FakeModel)
        sent = next(call.messages for call in intern.calls if len(call.messages) > 1)
    assert [message.role for message in sent] == ["system", "user"]
    assert sent[0].content == "Be brief." and QUESTION in sent[1].content


def test_messages_are_those_of_openai_s_client() -> None:
    from openai.types.chat import ChatCompletionMessage

    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "17*23?"}]
    problem = Problem.from_messages(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hello", "name": None},
            ChatCompletionMessage(role="assistant", content="Hello!"),  # type: ignore[list-item]
            {"role": "user", "content": parts},
        ]
    )
    assert [message.role for message in problem.messages] == ["system", "user", "assistant", "user"]
    assert problem.question == QUESTION and problem.task == "math"
    assert problem.id != Problem.from_messages(problem.messages[2:]).id
    assert Problem.from_messages([{"role": "user", "content": QUESTION}]) == Problem.from_text(QUESTION)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (3, "a text, a Problem, or a list of messages such as .* not int"),
        (None, "not NoneType"),
        ({"role": "user", "content": "x"}, r"not dict; of one message make a list: \[message\]"),
        ([], "there are no messages"),
        (["What is 1+1?"], "message 0 is of type str; it should be a dict"),
        ([{"role": "usr", "content": "x"}], "message 0: role: "),
        ([{"role": "user"}], "message 0: content: "),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "message 0: .* text parts only"),
        ("  ", "the problem is empty"),
    ],
)
def test_what_is_no_question_is_told_what_one_is(question: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fakes().solve(question)


@pytest.mark.parametrize("questions", ["one", 3, Problem.from_text("one"), {"role": "user", "content": "one"}])
def test_one_question_is_not_many(questions: Any) -> None:
    with pytest.raises(UsageError, match=r"questions are a list .* solve takes one"):
        fakes().solve_many(questions)


# --- settings of one call


async def test_settings_of_a_call_are_its_keywords() -> None:
    tandem = fakes()
    one = await tandem.asolve(QUESTION, strategy="mentor-only", mentor_max_tokens=3, stop=["zzz"])
    other = await tandem.asolve(
        QUESTION, options=SolveOptions(strategy="mentor-only", mentor_max_tokens=3, stop=("zzz",))
    )
    assert one.strategy == "mentor-only" and one.ledger.entries[0].usage.completion == 3
    assert (one.text, one.strategy, one.level) == (other.text, other.strategy, other.level)
    both = await tandem.asolve(QUESTION, options=SolveOptions(strategy="mentor-only"), strategy="intern-only")
    assert both.strategy == "intern-only"
    assert (await tandem.asolve(QUESTION, stop="so")).strategy == "tandem"
    many = [found async for _, found in tandem.asolve_many([QUESTION], strategy="intern-only")]
    assert isinstance(many[0], Solution) and many[0].strategy == "intern-only"
    assert tandem.plan(effort="none,low=7").describe()["ladder"] == "none,low=7"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"efort": "none"}, "unknown setting of a call 'efort'. Did you mean effort"),
        ({"unit": "euro"}, "unknown unit 'euro'"),
        ({"effort": 3}, "effort: .*, not 3"),
        ({"stop": 5}, "stop: .*, not 5"),
        ({"options": {"effort": "none"}}, "options are SolveOptions, not dict; or give them as keyword arguments"),
    ],
)
def test_a_bad_setting_is_told_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fakes().solve(QUESTION, **settings)
    with pytest.raises(UsageError, match=said):
        fakes().solve_many([QUESTION], **settings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mentr": "fake"}, "unknown argument of Tandem 'mentr'. Did you mean mentor"),
        ({"mentor": "fake"}, "the intern is missing"),
        ({"mentor": 3, "intern": "fake"}, "the mentor is a model's name or a Model, not int"),
    ],
)
def test_a_bad_argument_is_told_by_name(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Tandem(**arguments)


def test_no_problem_at_once_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1, not 0"):
        fakes().solve_many([QUESTION], concurrency=0)


# --- the default pair


def test_without_models_it_is_the_demo_pair() -> None:
    tandem = Tandem()
    assert (tandem.mentor.spec.name, tandem.intern.spec.name) == DEMO_PAIR
    assert tandem.plan().card is not None  # it is a tuned pair


def test_without_models_it_is_the_pair_of_the_config_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / "config" / "tandem" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "mentor: gpt-4o\nintern: mine\nintern-endpoint: http://gpu1:8000/v1\nintern_parameters: 7.6e+9\nport: 80"
    )
    tandem = Tandem()
    assert (tandem.mentor.spec.name, tandem.intern.spec.name) == ("gpt-4o", "mine")
    assert tandem.intern.address.startswith("gpu1:8000/v1") and tandem.intern.spec.parameters == 7.6e9
    assert default_pair().source == file
    assert Tandem("fake", "fake").mentor.spec.name == "fake"
    file.write_text("port: 80\n")  # options of commands only
    assert default_pair().mentor == DEMO_PAIR[0]
    other = home / "own.yaml"
    other.write_text("mentor: fake\nintern: fake\n")
    monkeypatch.setenv("TANDEM_CONFIG", str(other))
    assert solve(QUESTION).answer == "23"
    assert asyncio.run(asolve(QUESTION)).synthetic


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mentor: gpt-4o", "names one model of the pair"),
        ("- mentor", "holds no options"),
        ("mentor: [a]\nintern: b", r"mentor: \['a'\] is no text"),
        ("mentor: a\nintern: b\nintern_parameters: many", "intern_parameters: 'many' is no number"),
        ("mentor: {", "is not YAML"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(
    text: str, said: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "own.yaml").write_text(text)
    monkeypatch.setenv("TANDEM_CONFIG", str(home / "own.yaml"))
    with pytest.raises(UsageError, match=rf"own\.yaml.*{said}"):
        Tandem()


def test_a_config_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CONFIG", "/nowhere/own.yaml")
    with pytest.raises(UsageError, match=r"there is no file /nowhere/own.yaml"):
        Tandem()


# --- what is shown


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_results_read_well_in_a_console_and_in_a_notebook() -> None:
    hostile = "<script>alert(1)</script> & \\boxed{<b>7</b>}"
    script = Script(rules=(Rule(text=f"Goal: {hostile}\nPlanning: p", purpose="insight"), Rule(text=hostile)))
    with Tandem(FakeModel(script, name="<m>"), FakeModel(script, name="i"), strategy="fixed:low=9") as tandem:
        solution = tandem.solve("<i>What is 1+1?</i>")
        assert repr(tandem).startswith("Tandem(mentor='<m>', intern='i', strategy='fixed:low=9'")
        shown: list[Any] = [tandem, solution, solution.ledger]
        assert len(repr(solution)) < 300 and "answered_by='intern'" in repr(solution)
        assert repr(solution.ledger).startswith("Ledger(2 calls: mentor 5 tokens, intern 3 tokens")
        assert str(solution.ledger) in str(solution)
        pages = [Tags(one._repr_html_()) for one in shown]
        for page in pages:
            assert page.tags <= {"div", "strong", "table", "tr", "th", "td"}
        assert "<m>" in pages[0].text and hostile in pages[1].text and "<m>" in pages[2].text
        assert {"answer", "by", "Goal", "text", "cost", "note"} <= set(pages[1].text.splitlines())
        assert {"insight", "answer", "total", "TFLOPs"} <= set(pages[2].text.splitlines())
        for one in shown:
            assert "color" not in one._repr_html_()  # that of the page, light or dark
    Tags(Ledger()._repr_html_())
    Tags(Solution.failed("p", "tandem", Ledger())._repr_html_())


def test_a_bar_is_drawn_in_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(stream: io.StringIO, progress: bool | None) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        found = fakes(strategy="intern-only").solve_many(["What is 1+1?", "What is 2+3?"], progress=progress)
        assert [one.answer for one in found if isinstance(one, Solution)] == ["1", "3"]
        return stream.getvalue()

    assert "solving" in shown(Terminal(), None) and "solving" in shown(Terminal(), True)
    assert shown(Terminal(), False) == shown(io.StringIO(), None) == ""


def test_a_bar_is_drawn_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            drawn.append(html)

    def display(html: str, display_id: bool) -> Handle:
        assert display_id
        drawn.append(html)
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    pages = types.ModuleType("IPython.display")
    pages.HTML, pages.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", pages)
    fakes(strategy="intern-only").solve_many(["What is 1+1?", "What is 2+3?"])
    assert drawn[0].endswith(" 0/2</div>") and drawn[-1].endswith(" 2/2</div>")
    drawn.clear()
    fakes(strategy="intern-only").solve_many(["What is 1+1?"], progress=False)
    assert drawn == []


# --- notebooks and loops


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"TANDEM_HOME": str(folder / "home")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


_NOTEBOOK = """
import asyncio
from tandem import Tandem

async def cells():  # as a kernel runs them: inside a loop that is already running
    tandem = Tandem("fake", "fake")
    print(tandem.solve("What is 17*23?").answer)
    print([one.answer for one in tandem.solve_many(["What is 1+1?", "What is 2+3?"])])
    print(type(list(tandem.stream("What is 17*23?"))[-1]).__name__)
    print((await tandem.asolve("What is 17*23?")).answer)
    print([(place, one.answer) async for place, one in tandem.asolve_many(["What is 2+3?"])])
    with tandem:
        print(tandem.solve("What is 17*23?").answer)

asyncio.new_event_loop().run_until_complete(cells())
"""


def test_both_faces_work_in_a_notebook(tmp_path: Path) -> None:
    done = run(_NOTEBOOK, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["23", "['1', '3']", "Solution", "23", "[(0, '3')]", "23"]
    assert done.stderr == ""


def test_the_sync_face_inside_tandem_s_own_code_is_refused_and_does_not_hang() -> None:
    class Asking(FakeModel):
        async def probe(self) -> Any:
            return fakes(strategy="intern-only").solve(QUESTION)

    with pytest.raises(UsageError, match="await the async method there"):
        Tandem(Asking(), "fake", strategy="mentor-only").solve(QUESTION)


def test_the_events_of_a_stream_are_typed() -> None:
    events = list(fakes().stream(QUESTION, effort="none,low"))
    assert isinstance(events[-1], Solution) and any(isinstance(event, Decision) for event in events)
    assert "".join(event.text for event in events if isinstance(event, AnswerDelta)) == events[-1].text


_TYPED = """
from tandem import ComparisonResult, Solution, Tandem, TandemError, compare, estimate, tune

with Tandem(mentor="fake", intern="fake") as tandem:
    solution: Solution = tandem.solve([{"role": "user", "content": "x"}], effort="none,low", temperature=0.5)
    answer: str | None = solution.answer
    many: list[Solution | TandemError] = tandem.solve_many(["a", "b"], strategy="intern-only", progress=False)
    found: ComparisonResult = compare(tandem, "starter", limit=3, strategies=["tandem"])
    pays: bool = tune(tandem, "mine.csv", max_usd=2).pays
    print(estimate(tandem, "starter").problems)

async def main() -> Solution:
    async for place, result in tandem.asolve_many(["a"], effort="none"):
        print(place, result)
    return await tandem.asolve("x", unit="usd")
"""
_MISTYPED = """
from tandem import Tandem, compare, nothing

Tandem(mentr="fake")
tandem = Tandem("fake", "fake")
tandem.solve("x", efort="none")
tandem.solve(3)
compare(tandem, "starter", ot="x")
"""


@pytest.mark.slow
def test_a_type_checker_sees_names_arguments_and_results(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(_TYPED)
    (tmp_path / "mistyped.py").write_text(_MISTYPED)
    files = [str(tmp_path / name) for name in ("typed.py", "mistyped.py")]
    command = [sys.executable, "-m", "mypy", "--strict", *files]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=500, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [re.sub(r".*mistyped\.py:(\d+): .*", r"\1", line) for line in errors] == ["2", "4", "6", "7", "8"], (
        done.stdout
    )
    assert 'has no attribute "nothing"' in errors[0] and 'did you mean "effort"' in errors[2]
