"""A package of somebody else's adds data sets, a grader and a strategy; installed as pip would, used from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).with_name("plugin_package")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Lay the package out as an installation does: its source on the path, beside it what pyproject.toml declares."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    info = site / "tandem_riddles-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, names in groups for line in (f"[{group}]", *(f"{n} = {t}" for n, t in names.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (site / "tandem_riddles").symlink_to(PACKAGE / "src" / "tandem_riddles")
    return site


def tandem(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "TANDEM_HOME": str(site.parent / "home"), "COLUMNS": "120"}
    command = [sys.executable, "-m", "tandem", *arguments]
    return subprocess.run(
        command, env=environment, cwd=site.parent, capture_output=True, text=True, timeout=120, check=False
    )


def run(site: Path, dataset: str, answer: str) -> dict[str, bool | None]:
    """Run a data set whose every answer is this text; return what was found right."""
    (site.parent / "script.json").write_text(json.dumps({"rules": [{"text": answer}]}))
    fakes = ("--mentor", "fake:script.json", "--intern", "fake:script.json", "--strategy", "intern-only")
    done = tandem(site, "run", *fakes, "--dataset", dataset, "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    records = map(json.loads, (site.parent / "out" / "records.jsonl").read_text().splitlines())
    return {record["problem"]: record["correct"] for record in records}


def test_a_data_set_and_a_grader(installed: Path) -> None:
    assert run(installed, "riddles", "12345") == {"riddle-0": False, "riddle-1": True, "riddle-2": False}


def test_a_card_that_ships_its_file(installed: Path) -> None:
    assert run(installed, "sums", "The answer is 5.") == {"sums-test-00001": False, "sums-test-00002": True}


def test_they_are_listed_and_shown(installed: Path) -> None:
    listed = json.loads(tandem(installed, "datasets", "list", "--json").stdout)
    rows = {row["name"]: row for row in listed}
    assert rows["riddles"]["title"].startswith("Riddles whose answer")
    assert rows["sums"]["splits"]["test"]["file"].endswith("sums.jsonl")
    shown = tandem(installed, "datasets", "show", "riddles", "--split", "hard")
    assert "problems     3" in shown.stdout and "Riddle 0 of the hard ones?" in shown.stdout
    assert "What is 1+1?" in tandem(installed, "datasets", "show", "sums").stdout


def test_their_faults_are_one_line(installed: Path) -> None:
    done = tandem(installed, "datasets", "show", "riddles", "--split", "medium")
    assert (done.returncode, done.stderr) == (2, "tandem: riddles has the splits easy and hard, not 'medium'\n")
    done = tandem(installed, "datasets", "show", "ridles")
    assert done.returncode == 2 and "Did you mean riddles?" in done.stderr


def test_a_broken_one_hides_no_other(installed: Path) -> None:
    entries = installed / "tandem_riddles-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[tandem.datasets]\nbroken = nowhere:none\nnumber = math:pi\nraises = json:loads\n")
    listed = tandem(installed, "datasets", "list", "--json")
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert "cannot be imported" in rows["broken"]["title"] and rows["starter"]["splits"]["test"]["file"]
    for name, complaint in (
        ("broken", "data set 'broken' ('nowhere:none') cannot be imported"),
        ("number", "data set 'number': its entry point must be a Card or a function, not float"),
        ("raises", "data set 'raises' failed in its plugin (TypeError: "),
    ):
        done = tandem(installed, "datasets", "show", name)
        assert done.returncode == 1 and complaint in done.stderr and done.stderr.count("\n") == 1


def with_strategies(site: Path, module: str, *names: str) -> None:
    """Add strategies to the package, all in one module of this text; a name's class has its capitals."""
    (site / "tandem_faulty.py").write_text(module)
    entries = site / "tandem_riddles-1.0.dist-info" / "entry_points.txt"
    added = "".join(f"{name} = tandem_faulty:{name.title().replace('-', '')}\n" for name in names)
    entries.write_text(entries.read_text().replace("[tandem.strategies]\n", "[tandem.strategies]\n" + added))


def solve(site: Path, strategy: str, question: str = "What is 17*23?") -> subprocess.CompletedProcess[str]:
    return tandem(site, "solve", "--mentor", "fake", "--intern", "fake", "--strategy", strategy, "--json", question)


def complaint(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """Return the one line of a command that failed; what was watched before stands above it."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("tandem: ") and done.stderr.count("tandem: ") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return last.removeprefix("tandem: ")


def purposes(solution: dict[str, Any]) -> list[str]:
    return [entry["purpose"] for entry in solution["ledger"]["entries"]]


def test_a_strategy_runs_by_its_name_and_with_its_argument(installed: Path) -> None:
    pair = ("--mentor", "fake", "--intern", "fake", "--dataset", "starter", "--limit", "3")
    for name, drafts in (("echo-twice", 1), ("echo-twice:3", 2)):
        done = tandem(installed, "run", *pair, "--strategy", name, "--out", f"drafts-{drafts}", "--json")
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        assert (summary["n"], summary["errors"], summary["mentor_tokens"]) == (3, 0, 0)
        records = (installed.parent / f"drafts-{drafts}" / "records.jsonl").read_text().splitlines()
        for record in map(json.loads, records):
            assert record["strategy"] == name and purposes(record) == [*["probe"] * drafts, "answer"]
    again = tandem(installed, "run", *pair, "--strategy", "echo-twice:4", "--resume", "drafts-2")
    assert again.returncode == 2 and "strategy ('echo-twice:3', now 'echo-twice:4')" in again.stderr


def test_a_strategy_is_estimated_solved_and_refuses_what_it_cannot_take(installed: Path) -> None:
    pair = ("--mentor", "fake", "--intern", "fake", "--dataset", "starter", "--limit", "3")
    estimate = tandem(installed, "run", *pair, "--strategy", "echo-twice:3", "--estimate")
    assert estimate.returncode == 0, estimate.stderr
    assert solve(installed, "echo-twice").returncode == 0
    assert complaint(solve(installed, "echo-twice:many"), 2).endswith("as in echo-twice:3, not 'many'")


def test_a_strategy_is_among_the_nearest_names(installed: Path) -> None:
    assert complaint(solve(installed, "echo-twise"), 2) == "unknown strategy 'echo-twise'. Did you mean echo-twice?"


def listed(site: Path) -> dict[str, dict[str, Any]]:
    done = tandem(site, "strategies", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_strategies_are_listed_with_where_they_come_from(installed: Path) -> None:
    rows = listed(installed)
    assert rows["echo-twice"] == {
        "name": "echo-twice",
        "from": "tandem-riddles",
        "description": "The intern answers, reads its answer and gives it anew, twice or as often as said: "
        "echo-twice:<times>.",
        "argument": "optional",
        "roles": ["intern"],
        "learned": None,
        "error": None,
    }
    known = ("from", "argument", "roles", "learned", "error")
    for name, *values in (
        ("tandem", "built in", None, ["mentor", "intern"], "classifier", None),
        ("mentor-only", "built in", None, ["mentor"], None, None),
        ("fixed", "built in", "required", ["mentor", "intern"], None, None),
        ("budget-forcing", "built in", "optional", ["mentor"], None, None),
    ):
        assert [rows[name][key] for key in known] == values and rows[name]["description"].endswith(".")
    shown = tandem(installed, "strategies").stdout
    assert "echo-twice" in shown and "tandem-riddles" in shown and "[:…]" in shown


_LEARNED = """
from tandem_riddles.echo import EchoTwice

class Pupil(EchoTwice):
    def bind(self, mentor, intern): return "none"
    def saw(self, problem_id): return False
"""


def test_a_strategy_with_a_predictor_is_listed_as_learned(installed: Path) -> None:
    with_strategies(installed, _LEARNED, "pupil")
    assert listed(installed)["pupil"]["learned"] == "predictor"


_FAULTY = """
from tandem.strategies import PlannedCall, Strategy, stream_answer

class InternAlone(Strategy):
    roles = ("intern",)

class Idle(InternAlone):
    pass

class Silent(InternAlone):
    async def run(self, ctx):
        async for event in stream_answer("intern", ctx, "none"):
            if type(event).__name__ == "AnswerDelta":
                yield event

class Raises(InternAlone):
    async def run(self, ctx):
        async for event in stream_answer("intern", ctx, "none"):
            yield event
            raise ValueError("of its\\nown" if "17" in ctx.problem.question else "of another")

class Unplanned(Silent):
    def calls(self, ladder, settings, draft_tokens): return [PlannedCall()]

class Unmade(InternAlone):
    def __init__(self): raise KeyError("home")
    async def run(self, ctx): yield

class Stranger:
    roles = ("intern",)
    async def run(self, ctx): yield

Number = 3
"""


def _line(text: str) -> int:
    """Return the line of the faulty module that has `text`."""
    return _FAULTY[: _FAULTY.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("idle", "strategy 'idle' of tandem-riddles is none: it has no run"),
        ("stranger", "strategy 'stranger' of tandem-riddles is none: it does not inherit tandem.strategies.Strategy"),
        ("number", "strategy 'number' of tandem-riddles is broken: TypeError: 'int' object is not callable"),
        (
            "unmade",
            f"strategy 'unmade' of tandem-riddles is broken: KeyError: 'home' (tandem_faulty.py, line {_line('home')})",
        ),
        ("absent", "strategy 'absent' points at 'tandem_faulty:Absent', which does not exist"),
    ],
)
def test_a_broken_strategy_is_one_line_and_hides_no_other(installed: Path, name: str, said: str) -> None:
    with_strategies(installed, _FAULTY, name)
    assert complaint(solve(installed, name)) == said
    rows = listed(installed)
    assert rows[name]["error"] == said and rows[name]["from"] == "tandem-riddles"
    assert rows["echo-twice"]["error"] is None and rows["tandem"]["error"] is None
    assert said.rsplit(maxsplit=1)[-1] in tandem(installed, "strategies").stdout
    assert solve(installed, "echo-twice").returncode == 0


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import nowhere\n", "strategy 'idle' ('tandem_faulty:Idle') cannot be imported: No module named 'nowhere'"),
        ("class Idle\n", "strategy 'idle' of tandem-riddles is broken: SyntaxError: expected ':' (tandem_faulty.py"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(installed: Path, module: str, said: str) -> None:
    with_strategies(installed, module, "idle")
    assert complaint(solve(installed, "idle")).startswith(said)
    rows = listed(installed)
    assert rows["idle"]["error"].startswith(said) and rows["echo-twice"]["error"] is None


def test_a_strategy_that_ends_without_a_solution_says_so(installed: Path) -> None:
    with_strategies(installed, _FAULTY, "silent")
    assert complaint(solve(installed, "silent")) == "strategy 'silent' ended without a solution"


def test_a_strategy_that_raises_fails_its_problem_and_what_it_cost_is_kept(installed: Path) -> None:
    with_strategies(installed, _FAULTY, "raises")
    said = "strategy 'raises' of tandem-riddles failed: ValueError: of "
    place = f" (tandem_faulty.py, line {_line('raise ValueError')})"
    assert complaint(solve(installed, "raises")) == said + "its own" + place
    pair = ("--mentor", "fake", "--intern", "fake", "--dataset", "starter", "--limit", "2")
    done = tandem(installed, "run", *pair, "--strategy", "raises", "--out", "out", "--json")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    records = [json.loads(line) for line in (installed.parent / "out" / "records.jsonl").read_text().splitlines()]
    assert [record["error"] for record in records] == [said + "another" + place] * 2
    assert all(purposes(record) == ["answer"] for record in records)
    assert json.loads(done.stdout)["errors"] == 2


def test_a_plan_that_raises_is_one_line(installed: Path) -> None:
    with_strategies(installed, _FAULTY, "unplanned")
    pair = ("--mentor", "fake", "--intern", "fake", "--dataset", "starter", "--limit", "2")
    done = tandem(installed, "run", *pair, "--strategy", "unplanned", "--estimate")
    said = complaint(done)
    assert said.startswith("strategy 'unplanned' of tandem-riddles failed: TypeError: ")
    assert said.endswith(f"(tandem_faulty.py, line {_line('PlannedCall()')})")
