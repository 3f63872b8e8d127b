"""`tandem blueprint` as a user meets it: a build on the fake pair, its file, going on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Cli, dataset, script

from tandem.storage.lock import FolderLock
from tandem.training.blueprints.candidates import STYLES

GUIDE = "Read the question, write the equation, solve it, the {} way."


def pair(folder: Path) -> tuple[str, ...]:
    """Return the options of a fake pair whose mentor writes a guide in each style."""
    rules = [{"when": form, "text": GUIDE.format(name)} for name, form in STYLES.items()]
    return "--mentor", script(folder / "mentor.json", rules=rules), "--intern", "fake"


def build(folder: Path, *options: str, n: int = 120) -> tuple[str, ...]:
    return (
        "blueprint",
        "build",
        *pair(folder),
        "--dataset",
        dataset(folder / "toy.jsonl", n),
        "--out",
        "out",
        *options,
    )


def test_a_build_writes_its_file_and_says_how_to_use_it(cli: Cli, tmp_path: Path) -> None:
    found = cli(*build(tmp_path))
    assert found.code == 0, found.err
    assert "none (chosen)" in found.out and "synthetic" in found.out
    assert "searching: 0/332 answers" in found.err and "written: out/blueprints/toy.json" in found.err
    card = json.loads((tmp_path / "out/blueprints/toy.json").read_text())
    assert (card["dataset"], card["task"], card["chosen"], card["synthetic"]) == ("toy", "math", "none", True)
    (alone,) = [s for s in card["scores"] if s["candidate"] == "none" and s["part"] == "held-out"]
    assert alone["n"] == 64 and f"{alone['right']}/64" in found.out
    assert 0.25 < alone["right"] / 64 < 0.65  # the fake intern alone: about 45 %
    assert set(card["blueprints"]) == {*STYLES, "refined"} and card["data"]["source"]["name"].endswith("toy.jsonl")
    assert card["command"].startswith("tandem ")
    shown = cli("blueprint", "show", "out", "--json")
    assert json.loads(shown.out)[0]["chosen"] == "none" and cli("blueprint", "show", "out").code == 0


def test_what_was_built_is_run_by_the_strategy(cli: Cli, tmp_path: Path) -> None:
    assert cli(*build(tmp_path)).code == 0
    run = ("run", "--strategy", "blueprint:out", *pair(tmp_path), "--out", "run", "--json", "--allow-seen")
    found = cli(*run, "--dataset", dataset(tmp_path / "more.jsonl", 3))
    assert found.code == 0, found.err
    summary = json.loads(found.out)
    assert (summary["mentor_tokens"], summary["levels"], summary["errors"]) == (0, {"none": 3}, 0)


def test_the_same_command_goes_on_where_the_time_was_up(cli: Cli, tmp_path: Path) -> None:
    stopped = cli(*build(tmp_path, "--max-minutes", "0.0000001", "--json"))
    assert stopped.code == 1 and not stopped.out
    end = "stopped: --max-minutes 1e-07 are over; what is done is in out. Continue with the same command"
    assert end in stopped.err
    assert not (tmp_path / "out/blueprints").exists()
    whole = cli(*build(tmp_path, "--json"))
    assert whole.code == 0 and json.loads(whole.out)["chosen"] == "none"
    again = cli(*build(tmp_path, "--json"))
    assert "mentor 0 tokens, intern 0 tokens" in again.err.splitlines()[-2]  # nothing was asked once more
    first, second = (json.loads(found.out) for found in (whole, again))
    assert first["offline"]["intern_tokens"] == second["offline"]["intern_tokens"] > 0  # and all of it is charged


def test_a_password_in_an_address_is_not_kept(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tandem", "blueprint", "build", "--mentor-endpoint", "http://me:secret@host/v1"])
    stopped = cli(*build(tmp_path, "--max-minutes", "0.0000001"))
    assert stopped.err.endswith("Continue with the same command\n")
    assert cli(*build(tmp_path)).code == 0
    text = (tmp_path / "out/blueprints/toy.json").read_text()
    assert "http://***@host/v1" in text and "secret" not in text


def test_two_builds_do_not_share_a_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    found = cli(*build(tmp_path))
    lock.release()
    assert found.code == 2 and "is being written by another process" in found.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--held-out", "20"), "at least 64 problems must be held out, not 20"),
        (("--candidates", "5"), "takes 8 to 43 candidates, not 5"),
        (("--limit", "80"), "needs 106 different problems: 6 as examples, 4 as mistakes, 32 to search on and 64"),
        (("--rounds", "4"), "needs 138 different problems"),
    ],
)
def test_a_build_that_would_show_nothing_is_refused(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    found = cli(*build(tmp_path, *options))
    assert (found.code, found.out) == (2, "") and said in found.err and len(found.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_code_is_run_only_where_that_is_allowed(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"id": f"c{i}", "problem": f"Write f{i}.", "task": "code", "tests": f"assert f{i}() == {i}"} for i in range(110)
    ]
    (tmp_path / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = cli("blueprint", "build", *pair(tmp_path), "--dataset", "code.jsonl", "--out", "out")
    assert found.code == 2 and "--allow-code-execution" in found.err


def test_show_of_what_holds_none(cli: Cli, tmp_path: Path) -> None:
    found = cli("blueprint", "show", str(tmp_path))
    assert found.code == 2 and "holds no blueprint" in found.err
    assert cli("blueprint", "show", "--json").code == 0  # those that are shipped
