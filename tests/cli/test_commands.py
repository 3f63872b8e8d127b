"""What the commands print and write when all goes well: results on standard output, everything else beside it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset

import tandem
from tandem.datasets import load_dataset
from tandem.runs.manifest import problems_digest
from tandem.sufficiency.classifier import available

QUESTION = "What is 17*23?"


def test_run_prints_one_json_object_and_writes_its_files(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 5)
    outcome = cli("run", *FAKES, "--dataset", own, "--limit", "4", "--out", "out", "--json")
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert outcome.out.count("\n") == 1
    assert {
        *("n", "accuracy", "accuracy_ci95", "mentor_tokens", "intern_tokens", "probe_tokens", "tflops"),
        *("tflops_published", "usd", "seconds", "levels", "truncated", "errors", "classifier"),
    } <= summary.keys()
    assert (summary["n"], summary["errors"], summary["accuracy"], summary["usd"]) == (4, 0, 1.0, None)
    assert summary["accuracy_ci95"][0] < 1.0 == summary["accuracy_ci95"][1]
    assert summary["synthetic"] is True
    assert "4/4 accuracy 1.000" in outcome.err
    folder = tmp_path / "out"
    files = ["calls.jsonl", "problems.jsonl", "records.jsonl", "run.json", "run.lock", "summary.json"]
    assert sorted(path.name for path in folder.iterdir()) == files
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert len((folder / "records.jsonl").read_text().splitlines()) == 4


def test_run_json_says_what_to_repeat(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 3)
    options = ("--effort", "none,low=40,high", "--temperature", "0.3", "--seed", "7", "--mentor-max-tokens", "99")
    assert cli("run", *FAKES, "--dataset", own, *options, "--out", "out").code == 0
    written = json.loads((tmp_path / "out" / "run.json").read_text())
    run, data = written["run"], written["run"]["dataset"]
    assert written["version"] == tandem.__version__ and written["synthetic"] is True and written["started"]
    assert (run["strategy"], run["mentor"]["name"], run["intern"]["name"]) == ("tandem", "fake", "fake")
    assert run["ladder"] == "none,low=40,high=1000"
    assert run["settings"]["sampling"] == {"temperature": 0.3, "top_p": 1.0, "seed": 7, "stop": []}
    assert run["settings"]["mentor_max_tokens"] == 99
    assert run["classifier"] == json.loads((tmp_path / "out" / "summary.json").read_text())["classifier"]["id"]
    assert (data["name"], data["problems"], data["split"], data["limit"]) == (own, 3, None, None)
    drawn = sorted(load_dataset(own), key=lambda p: hashlib.sha256(f"7:{p.id}".encode()).digest())
    assert data["problems_sha256"] == problems_digest(drawn) != problems_digest(load_dataset(own))


def test_run_prints_a_table_and_says_where_the_records_are(cli: Cli, tmp_path: Path) -> None:
    alone = ("run", *FAKES, "--strategy", "mentor-only", "--dataset", dataset(tmp_path / "own.jsonl", 2))
    outcome = cli(*alone)
    assert outcome.code == 0
    assert "mentor-only: fake + fake" in outcome.out and "synthetic" in outcome.out and "1.000" in outcome.out
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"records in runs/{folder.name}" in outcome.err
    assert folder.name.endswith("-own-mentor-only")
    assert cli(*alone).code == 0  # the same again on the same day takes a folder of its own
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_run_on_another_pair_says_that_it_is_uncalibrated_and_what_to_do(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 1), "--out", "out")
    assert "uncalibrated: another mentor, intern" in " ".join(outcome.out.replace("│", " ").split())
    assert "Tune the pair on your own problems" in outcome.err and "\ntandem tune --mentor fake" in outcome.err


def test_run_refuses_problems_that_the_classifier_was_fitted_on(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "fitted"
    shutil.copytree(next(iter(available().values())), folder)
    card = json.loads((folder / "card.json").read_text())
    card["data"]["seen"] = [hashlib.sha256(b"starter-02").hexdigest()[:12]]
    (folder / "card.json").write_text(json.dumps(card))
    asked = ("run", *FAKES, "--dataset", "starter", "--limit", "40", "--classifier", str(folder), "--out", "out")
    outcome = cli(*asked)
    assert outcome.code == 2 and "1 of these 40 problems (such as starter-02)" in outcome.err
    assert not (tmp_path / "out").exists()
    assert cli(*asked, "--strategy", "fixed:low").code == 0  # it asks no classifier
    assert cli(*asked[:-1], "again", "--allow-seen").code == 0


def test_options_come_from_the_environment_too(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANDEM_RUN_MENTOR", "fake")
    monkeypatch.setenv("TANDEM_RUN_INTERN", "fake")
    monkeypatch.setenv("TANDEM_RUN_STRATEGY", "intern-only")
    outcome = cli("run", "--dataset", dataset(tmp_path / "own.jsonl", 1), "--out", "out", "--json")
    assert json.loads(outcome.out)["levels"] == {"none": 1}


def test_solve_shows_decisions_insight_answer_and_cost(cli: Cli) -> None:
    outcome = cli("solve", *FAKES, "--effort", "low,high", QUESTION)
    assert (outcome.code, outcome.err) == (0, "")
    for part in ("sufficiency", "Goal: find the quantity", "the answer is \\boxed{23}", "answer: 23", "synthetic"):
        assert part in outcome.out


def test_solve_json_is_a_solution_and_nothing_else(cli: Cli) -> None:
    outcome = cli("solve", *FAKES, "--strategy", "fixed:low", "--task", "math", "--json", QUESTION)
    assert outcome.code == 0
    solution = tandem.Solution.model_validate_json(outcome.out)
    assert (solution.answer, solution.level, solution.answered_by) == ("23", "low", "intern")
    assert solution.synthetic and solution.ledger.mentor_tokens > 0
    assert "answer: 23" in outcome.err  # the watching goes beside it


def test_solve_reads_a_problem_from_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is\n6*7?\n"))
    outcome = cli("solve", *FAKES, "--strategy", "intern-only", "--json", "-")
    assert json.loads(outcome.out)["answer"] == "7"


def test_doctor(cli: Cli) -> None:
    findings = json.loads(cli("doctor", "--json").out)
    assert "OPENAI_API_KEY" in findings["keys_set"] and not any(findings["keys_set"].values())
    assert findings["processors"] >= 1 and findings["models_here"] == []
    assert any("tandem models pull" in line for line in findings["advice"])
    outcome = cli("doctor")
    assert outcome.code == 0 and "processors" in outcome.out
    assert "- For the demo pair: tandem models pull" in outcome.out


def test_doctor_never_shows_a_key(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret1234567890")
    shown = cli("doctor", "--json").out
    assert json.loads(shown)["keys_set"]["OPENAI_API_KEY"] is True
    assert "verysecret" not in shown + cli("doctor").out


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"tandem, version {tandem.__version__}\n"


@pytest.mark.parametrize("command", ["", "run", "solve", "models", "train", "doctor"])
def test_every_command_helps_with_examples(cli: Cli, command: str) -> None:
    outcome = cli(*command.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    usage, _, rest = outcome.out.partition("\n")
    assert usage.startswith(f"Usage: tandem {command}".rstrip())
    assert f"tandem {command}".rstrip() in rest  # an example


def test_help_lists_every_command_and_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tandem.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as stop:\n    code = stop.code\n"
        "heavy = {'torch', 'sklearn', 'openai', 'pydantic', 'numpy', 'rich', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)), code, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert ended.stderr == "[] 0\n"
    listed = {line.split()[0] for line in ended.stdout.partition("Commands:")[2].splitlines() if line.strip()}
    assert {"run", "solve", "models", "train", "doctor"} <= listed


def test_no_command_imports_anything_heavy_for_its_help(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tandem.cli import _COMMANDS, main\n"
        "heavy = ('torch', 'scipy', 'sklearn', 'openai', 'pydantic', 'numpy', 'rich', 'transformers', 'yaml')\n"
        "for name in _COMMANDS:\n"
        "    try:\n        main([name, '--help'])\n"
        "    except SystemExit:\n"
        "        print(name, [one for one in heavy if one in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    loaded = dict(line.split(" ", 1) for line in ended.stderr.splitlines())
    assert {"run", "compare", "collect", "serve"} <= loaded.keys() and set(loaded.values()) == {"[]"}
