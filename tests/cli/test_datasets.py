"""`tandem datasets`, and the options that choose problems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FAKES, Cli


def test_list(cli: Cli) -> None:
    table = cli("datasets", "list")
    assert table.code == 0
    for name in ("math500", "humaneval", "mbpp", "bbh", "aime25", "cnk12", "reasoning-gym", "starter"):
        assert f"\n{name} " in table.out.replace("\n ", "\n")
    rows = {row["name"]: row for row in json.loads(cli("datasets", "list", "--json").out)}
    assert rows["starter"]["splits"]["code"]["file"].endswith("starter_code.jsonl")
    assert rows["aime24"]["splits"]["test"] == {
        "file": None,
        "file_name": "aime24.jsonl",
        "of": "aime24",
        "verified": False,
        "hub": "HuggingFaceH4/aime_2024",
    }
    assert rows["math500"]["splits"]["train"]["of"] == "math"


def test_show_what_is_here(cli: Cli) -> None:
    shown = cli("datasets", "show", "starter")
    assert shown.code == 0
    assert "problems     40" in shown.out
    assert "word problems (" in shown.out
    assert "starter-01\nAda, Bo and Cyra share 96 stickers." in shown.out
    code = json.loads(cli("datasets", "show", "starter", "--split", "code", "--json").out)
    assert (code["problems"], code["tasks"], code["sample"]["id"]) == (12, {"code": 12}, "starter-code-01")


def test_show_what_is_not_here(cli: Cli) -> None:
    shown = cli("datasets", "show", "cnk12")
    assert shown.code == 0
    assert "not here; the hub has it (open-r1/OpenR1-Math-220k); never tested on the real file" in shown.out
    assert "to get it    put cnk12.jsonl (from https://huggingface.co/datasets/open-r1/" in shown.out
    assert "problems  " not in shown.out


def test_show_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,level\nWhat is 1+1?,1\nWhat is 2+2?,2\n[bold]?,2\n")
    shown = cli("datasets", "show", str(path), "--field", "problem=text")
    assert shown.code == 0
    assert "problems     3 (general 1, math 2; 3 without a reference)" in shown.out
    assert "levels       1 (1), 2 (2)" in shown.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("show", "math50"), "Did you mean math500"),
        (("show", "math500", "--split", "trian"), "Did you mean train"),
        (("show", "reasoning-gym:"), "needs a task"),
        (("show", "none.csv"), "none.csv: no such file"),
        (("show", "NONE.JSONL"), "NONE.JSONL: no such file"),
        (("show", "./"), ". is a folder; name the file in it"),
        (("show", f"{'x' * 300}.csv"), "File name too long"),
        (("show", "starter", "--field", "problem=text"), "'starter' has a card"),
        (("show", "reasoning-gym:chain_sum", "--split", "test"), "leave out the split"),
        (("show", "none.csv", "--field", "problem"), "--field takes key=name, as in problem=text; this is 'problem'"),
        (("show", "none.csv", "--field", "a=b", "--field", "a=c"), "--field a is given twice"),
    ],
)
def test_faults(cli: Cli, arguments: tuple[str, ...], complaint: str) -> None:
    outcome = cli("datasets", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("tandem: ") and complaint in outcome.err and outcome.err.count("\n") == 1


def test_a_run_of_a_choice_of_problems(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"q{i},What is {i}+{i}?,{2 * i},{'sums' if i % 2 else 'other'},{i % 3}" for i in range(12)]
    path.write_text("\n".join(["key,text,gold,subject,level", *rows]) + "\n")
    fields = [part for pair in ("id=key", "problem=text", "answer=gold") for part in ("--field", pair)]
    chosen = ["--dataset", str(path), *fields, "--subject", "sums", "--level", "1", "--level", "2"]

    def run(out: str, *more: str) -> list[str]:
        outcome = cli("run", *FAKES, *chosen, "--out", out, *more)
        assert outcome.code == 0, outcome.err
        return sorted(
            json.loads(line)["problem"] for line in (tmp_path / out / "records.jsonl").read_text().splitlines()
        )

    assert run("all") == ["q1", "q11", "q5", "q7"]
    assert run("two", "--limit", "2") == ["q1", "q5"]
    drawn = run("drawn", "--limit", "2", "--sample-seed", "3")
    assert run("again", "--limit", "2", "--seed", "3") == drawn
    assert run("other", "--limit", "2", "--sample-seed", "3", "--seed", "4") == drawn


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('{"problem": "1+', "mine.jsonl:2: not valid JSON"),
        ('{"answer": "2"}', "mine.jsonl:2: no field problem"),
        ('{"problem": "1+1", "id": "mine-00001"}', "mine.jsonl:2: the id 'mine-00001' is already on line 1"),
        (json.dumps({"problem": "x" * 200_000}), "mine.jsonl:2: the problem has 200,000 characters"),
    ],
)
def test_a_bad_file_is_one_line(cli: Cli, tmp_path: Path, row: str, complaint: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('\ufeff{"problem": "1+1"}\n' + row + "\n", "utf-8")
    outcome = cli("run", *FAKES, "--dataset", str(path), "--out", "out")
    assert outcome.code == 2 and complaint in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_show_passes_no_terminal_codes_on(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": "a\nb\x1b[2J", "problem": "two\nlines\x1b[31m", "answer": "\x07"}) + "\n")
    shown = cli("datasets", "show", str(path))
    assert shown.code == 0 and "\x1b" not in shown.out and "\x07" not in shown.out
    assert "\na b [2J\ntwo\nlines [31m\n" in shown.out


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("prompt,gold,notes", "--field answer=gold"),
        ("prompt,Final Solution", "--field answer=Final Solution"),
        ("prompt,zz", "--field answer=zz"),
        ("prompt,zz,yy", "--field answer=COLUMN; own.csv has zz, yy"),
        ("prompt", "own.csv has no column that could hold the answers: add a column `answer`"),
    ],
)
def test_a_file_whose_answers_are_in_another_column_says_which_option_names_it(
    cli: Cli, tmp_path: Path, head: str, told: str
) -> None:
    cells = ",".join(["What is 1+1?", "2", "3"][: head.count(",") + 1])
    (tmp_path / "own.csv").write_text(f"{head}\n{cells}\n")
    outcome = cli("run", *FAKES, "--dataset", "own.csv", "--out", "out")
    assert outcome.code == 0 and f"nothing can be graded: no problem has an answer; {told}"[:40] in outcome.err
    assert told in outcome.err
    for command in ("compare", "tune"):
        refused = cli(command, *FAKES, "--dataset", "own.csv")
        assert refused.code == 2 and told in refused.err


def test_a_file_without_problems_says_which_option_names_them(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("a,b\nWhat is 1+1?,2\n")
    outcome = cli("run", *FAKES, "--dataset", "own.csv")
    assert outcome.code == 2 and "the line's fields: a, b; name yours, as in --field problem=a" in outcome.err
