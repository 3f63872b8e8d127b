"""Bad input and bad surroundings: one clear line on standard error, exit code 2 for usage and 1 for failures."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import FAKES, SECRET, Cli, Outcome, dataset, script
from stub import Reply, Stub

SOLVE = ("solve", *FAKES)
RUN = ("run", *FAKES, "--dataset", "starter")


def line(outcome: Outcome) -> str:
    """Return the one line that a failure says; nothing else may be on either stream."""
    assert outcome.out == ""
    assert outcome.err.startswith("tandem: ") and outcome.err.count("\n") == 1 and outcome.err.endswith("\n")
    return outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "unknown command 'rnu'. Did you mean run"),
        (["--verison"], "No such option '--verison'. Did you mean '--version'?"),
        (["models", "shw"], "No such command 'shw'. Did you mean 'show'?"),
        (["run"], "Missing option '--mentor'"),
        (SOLVE, "Missing argument 'PROBLEM'"),
        ([*SOLVE, "--mentr", "x", "q"], "--mentor"),
        ([*RUN, "--limit", "0"], "'--limit': 0 is not in the range x>=1"),
        ([*SOLVE, "--temperature", "9", "q"], "'--temperature': 9.0 is not in the range 0<=x<=2"),
        ([*SOLVE, "--temperature", "nan", "q"], "'--temperature': nan is not a finite number"),
        ([*SOLVE, "--mentor-parameters", "-3", "q"], "'--mentor-parameters': -3.0 is not in the range x>0"),
        ([*SOLVE, "--pace", "egar", "q"], "'egar' is not one of 'auto', 'eager', 'thrifty'"),
        (["solve", "--mentor", "gpt4o", "--intern", "fake", "q"], "unknown model 'gpt4o'. Did you mean gpt-4o"),
        (["solve", "--mentor", "fake", "--intern", " ", "q"], "the intern has no name"),
        (["solve", "--mentor", "fake:no.json", "--intern", "fake", "q"], "script no.json cannot be used"),
        ([*SOLVE, "--mentor-endpoint", "http://127.0.0.1:9/v1", "q"], "the fake model has no endpoint"),
        ([*SOLVE, "--strategy", "tandm", "q"], "unknown strategy 'tandm'. Did you mean tandem, random-mix?"),
        ([*SOLVE, "--strategy", "fixed", "q"], "'fixed' takes one level, as in fixed:medium"),
        (
            [*SOLVE, "--strategy", "mentor-only:low", "q"],
            "strategy 'mentor-only' takes no ':low'",
        ),
        ([*SOLVE, "--strategy", "budget-forcing:0", "q"], "budget-forcing takes a positive number of tokens, not 0"),
        ([*SOLVE, "--strategy", "budget-forcing:x", "q"], "as in budget-forcing:300, not 'x'"),
        ([*SOLVE, "--classifier", "nobody", "q"], "unknown classifier 'nobody'"),
        ([*SOLVE, "--effort", "none,lo", "q"], "unknown effort level 'lo'. Did you mean low?"),
        ([*SOLVE, "--effort", "", "q"], "unknown effort level ''. Known: answer, high, low, medium, none"),
        ([*SOLVE, "--effort", "high,low=40", "q"], "'low' (40 tokens) must be above 'high'"),
        ([*SOLVE, "--effort", "none,low=many", "q"], "needs a positive number of mentor tokens, not 'many'"),
        ([*SOLVE, "--effort", "answer,low", "q"], "'answer' comes last"),
        ([*SOLVE, " \n"], "the problem is empty"),
        ([*SOLVE, "caf\udce9"], "the problem is not valid UTF-8 text"),
        ([*SOLVE, "word " * 40_000], "the problem is too long for fake"),
        (["run", *FAKES, "--dataset", "math50"], "unknown data set 'math50'. Did you mean math500"),
        (["run", *FAKES, "--dataset", "no/such.jsonl"], "no/such.jsonl: no such file"),
        ([*RUN, "--split", "tset"], "unknown split of starter 'tset'. Did you mean test?"),
        ([*RUN, "--out", "a", "--resume", "b"], "give one of them"),
        ([*RUN, "--resume", "nothing"], "nothing holds no run"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(cli: Cli, arguments: list[str], said: str) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert said in line(outcome)


def test_a_real_process_ends_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tandem", *SOLVE, "--strategy", "tandm", "What is 1+1?"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "tandem: unknown strategy 'tandm'. Did you mean tandem, random-mix?\n"


@pytest.mark.parametrize("arguments", [[], ["models"]])
def test_a_group_without_a_command_shows_its_help(cli: Cli, arguments: list[str]) -> None:
    outcome = cli(*arguments)
    assert (outcome.out + outcome.err).startswith("Usage: tandem")


def test_a_problem_from_standard_input_must_be_text(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"What is \xff?"), encoding="utf-8"))
    outcome = cli(*SOLVE, "-")
    assert outcome.code == 2 and "not valid UTF-8" in line(outcome)


def test_an_intern_without_logprobs_is_told_what_to_use_instead(cli: Cli, tmp_path: Path) -> None:
    mute = script(tmp_path / "mute.json", logprobs=False)
    outcome = cli("solve", "--mentor", "fake", "--intern", mute, "What is 1+1?")
    assert outcome.code == 2
    assert "exposes none" in line(outcome) and "--strategy fixed:<level>" in outcome.err
    assert cli("solve", "--mentor", "fake", "--intern", mute, "--strategy", "fixed:low", "What is 1+1?").code == 0


def test_a_run_fails_as_a_whole_where_the_intern_has_no_logprobs(cli: Cli, tmp_path: Path) -> None:
    mute = script(tmp_path / "mute.json", logprobs=False)
    outcome = cli("run", "--mentor", "fake", "--intern", mute, "--dataset", dataset(tmp_path / "own.jsonl", 3))
    assert (outcome.code, outcome.out) == (2, "")
    assert "exposes none" in outcome.err.splitlines()[-1] and outcome.err.count("tandem:") == 1


# Endpoints


def test_a_missing_key_names_its_variable(cli: Cli) -> None:
    outcome = cli("solve", "--mentor", "gpt-4o", "--intern", "fake", "What is 1+1?")
    assert outcome.code == 1 and "set OPENAI_API_KEY" in line(outcome)


@pytest.mark.slow
def test_an_endpoint_that_is_down(cli: Cli, unused_tcp_port: int) -> None:
    where = f"127.0.0.1:{unused_tcp_port}"
    outcome = cli("solve", "--mentor", "m", "--mentor-endpoint", f"http://{where}/v1", "--intern", "fake", "1+1?")
    assert outcome.code == 1 and f"cannot reach {where}" in line(outcome)


def test_an_endpoint_that_refuses_the_key(
    cli: Cli, serve: Callable[[Stub], Stub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub = serve(Stub(key="another"))
    at = ("--mentor", "stub", "--mentor-endpoint", stub.url, "--intern", "fake")
    outcome = cli("solve", *at, "1+1?")
    assert outcome.code == 1 and "set TANDEM_MENTOR_API_KEY or OPENAI_API_KEY" in line(outcome)
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={SECRET}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "")  # so that what .env sets is taken back after the test
    monkeypatch.delenv("OPENAI_API_KEY")
    outcome = cli("solve", *at, "1+1?")
    assert stub.seen[-1].headers["authorization"] == f"Bearer {SECRET}"  # the key of .env was sent
    assert outcome.code == 1 and "wants another key for 'stub' (401)" in line(outcome)
    assert SECRET not in outcome.err  # although the server's answer held it


def test_an_endpoint_that_serves_other_models(cli: Cli, serve: Callable[[Stub], Stub]) -> None:
    stub = serve(Stub(models=[{"id": "qwen3-32b"}, {"id": "llama-70b"}]))
    at = ("--mentor", "qwen3-30b", "--mentor-endpoint", stub.url, "--intern", "fake")
    outcome = cli("solve", *at, "1+1?")
    assert outcome.code == 1
    assert "serves no model 'qwen3-30b': it serves qwen3-32b, llama-70b" in line(outcome)


def test_a_problem_that_does_not_fit_the_served_context(cli: Cli, serve: Callable[[Stub], Stub]) -> None:
    stub = serve(Stub(models=[{"id": "stub", "max_model_len": 300}]))
    at = ("--mentor", "stub", "--mentor-endpoint", stub.url, "--intern", "fake", "--strategy", "mentor-only")
    outcome = cli("solve", *at, "What is 1+1? " * 200)
    assert outcome.code == 2 and "the problem is too long for stub" in line(outcome) and "300 fit" in outcome.err


def test_the_key_is_in_nothing_that_a_run_writes(
    cli: Cli, serve: Callable[[Stub], Stub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    # Both problems fail at the server, which echoes the key in its words.
    stub = serve(Stub(Reply(status=400, error=f"no good: Bearer {SECRET}")))
    stub.script(Reply(tokens=("1",)))  # the probe
    address = stub.url.replace("http://", "http://user:hunter2@")
    at = ("--mentor", "stub", "--mentor-endpoint", address, "--intern", "fake", "--strategy", "mentor-only")
    outcome = cli("run", *at, "--dataset", dataset(tmp_path / "own.jsonl", 2), "--out", "out", "--json")
    assert outcome.code == 1 and json.loads(outcome.out)["errors"] == 2  # every problem failed
    assert "Traceback" not in outcome.err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["endpoints"] == {"mentor": stub.url, "intern": None}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "records.jsonl", "summary.json"} <= {path.name for path in written}
    for text in (outcome.out, outcome.err, *(path.read_text() for path in written)):
        assert SECRET not in text and "hunter2" not in text


# A run's folder


def test_a_folder_that_holds_a_run_or_another_run(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 2)
    alone = ("run", *FAKES, "--strategy", "intern-only", "--dataset", own)
    assert cli(*alone, "--out", "out").code == 0
    held = cli(*alone, "--out", "out")
    assert held.code == 2 and "out holds a run already; go on with it (--resume out)" in line(held)
    other = cli(*alone, "--resume", "out", "--temperature", "0.5")
    assert other.code == 2 and "settings.sampling.temperature (0.0, now 0.5)" in line(other)
    dataset(tmp_path / "own.jsonl", 3)
    grown = cli(*alone, "--resume", "out")
    assert grown.code == 2 and "dataset.problems_sha256" in line(grown)


def test_an_edited_data_set_is_another_one_though_its_ids_are_the_same(cli: Cli, tmp_path: Path) -> None:
    own = Path(dataset(tmp_path / "own.jsonl", 2))
    alone = ("run", *FAKES, "--strategy", "intern-only", "--dataset", str(own))
    assert cli(*alone, "--out", "out").code == 0
    own.write_text(own.read_text().replace("What is", "How much is"))
    edited = cli(*alone, "--resume", "out")
    assert edited.code == 2 and "it differs in dataset.problems_sha256" in line(edited)


def test_a_resume_with_nothing_to_do_keeps_what_the_summary_says(cli: Cli, tmp_path: Path) -> None:
    alone = ("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 2), "--json")
    first = json.loads(cli(*alone, "--out", "out").out)
    assert first["classifier"]["match"].startswith("uncalibrated")
    assert json.loads(cli(*alone, "--resume", "out").out)["classifier"] == first["classifier"]
    (tmp_path / "out" / "summary.json").write_text("{")
    assert json.loads(cli(*alone, "--resume", "out").out)["classifier"] is None  # not "exact", which nobody checked


def test_an_environment_file_that_is_no_text(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"KEY=caf\xe9\n")
    outcome = cli("datasets", "list")
    assert outcome.code == 2 and ".env: not UTF-8 text" in line(outcome)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("arguments", [["datasets", "list"], ["datasets", "list", "--json"], ["run", "--help"]])
def test_standard_output_on_a_full_disk(arguments: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tandem", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr == "tandem: standard output or another stream: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="a path below a file")
def test_an_out_that_cannot_be_made(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = cli(*RUN, "--out", "file/run")
    assert outcome.code == 1 and "cannot create file/run" in line(outcome)
