"""The recipes for other people's clients: what ships beside the page. With the clients they are in tests/recipes."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pages import DOCS

from tandem.cli import cli
from tandem.datasets import load_dataset
from tandem.grading import extract_answer

pytestmark = pytest.mark.slow

RECIPES = DOCS / "recipes"
QUESTIONS = {
    "Ann has 3 boxes with 8 pens each. How many pens is that?": "3*8=<<3*8=24>>24\n#### 24",
    "Bob earns 7 dollars an hour and works 150 hours. What does he earn?": "#### 1,050",
    "Of 20 birds 5 fly away. How many stay?": "20-5=15\n#### 15",
}


def filters() -> list[dict[str, Any]]:
    """Return the task's regular expressions, in their order."""
    text = (RECIPES / "lm_eval" / "gsm8k_local.yaml").read_text().replace("!function ", "")
    (only,) = yaml.safe_load(text)["filter_list"]
    return [step for step in only["filter"] if step["function"] == "regex"]


def read(text: str) -> str:
    """Read an answer as lm_eval does: a step takes one of its matches, and of that the first group with something."""
    for step in filters():
        found = re.findall(step["regex_pattern"], text)
        chosen = found[step.get("group_select", 0)] if found else "[invalid]"
        text = next(filter(None, chosen), "[invalid]") if isinstance(chosen, tuple) else chosen
    return text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so it is \\boxed{18}.", "18"),
        ("first \\boxed{3}, no:\nit is \\boxed{1,080}\nin 7 days", "1,080"),
        ("\\boxed{\\$18.50}", "18.50"),
        ("\\boxed{\\text{in all }18 \\text{ eggs}}", "18"),
        ("\\boxed{x = 5-3 = 2}", "2"),
        ("\\boxed{-4}", "-4"),
        ("she has 5 and 6\n\nThe answer is 11 dollars.\n\n", "11"),
        ("16 - 3 = 13\n#### 13", "13"),
        ("#### 72", "72"),
        ("it is .5", ".5"),
    ],
)
def test_lm_eval_reads_the_answer_that_tandem_reads(text: str, answer: str) -> None:
    assert read(text) == answer
    ours = extract_answer("math", text)
    assert ours and re.findall(r"-?[\d,.]*\d", re.sub(r"\d-\d", "", ours))[-1] == answer


@pytest.mark.parametrize("text", ["", "there is none", "5 and 6 make \\boxed{1", "7\nI cannot say."])
def test_both_read_nothing_where_nothing_is_stated(text: str) -> None:
    assert read(text) == "[invalid]"
    assert not re.search(r"\d", extract_answer("math", text) or "")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a run of a fake intern over a data set that looks like GSM8K; with a script it knows no references."""
    rows = [{"question": question, "answer": answer} for question, answer in QUESTIONS.items()]
    with gzip.open(tmp_path / "gsm8k_test.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path))
    (script := tmp_path / "script.json").write_text("{}")
    pair = ("--mentor", "fake", "--intern", f"fake:{script}", "--strategy", "intern-only", "--dataset", "gsm8k")
    done = CliRunner().invoke(cli, ["run", *pair, "--split", "test", "--out", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    return tmp_path / "run"


def logged(run: Path) -> list[dict[str, Any]]:
    """Return what lm_eval would have logged of the same answers."""
    asked = {problem.id: problem.messages for problem in load_dataset("gsm8k", split="test")}
    found = []
    for line in (run / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        sent = json.dumps([message.model_dump() for message in asked[record["problem"]]])
        found.append(
            {
                "arguments": {"gen_args_0": {"arg_0": [sent], "arg_1": {}}},
                "resps": [[record["text"]]],
                "filtered_resps": [read(record["text"])],
                "exact_match": float(record["correct"]),
            }
        )
    return sorted(found, key=lambda row: str(row["arguments"]))


def compared(run: Path, rows: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    samples = run.parent / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return same_answers(samples, run)


def same_answers(samples: Path, run: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPES / "same_answers.py"), str(samples), str(run)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_same_answers_agree(run: Path) -> None:
    done = compared(run, logged(run))
    assert done.returncode == 0, done.stderr
    assert "the same text 3, the same answer 3, the same verdict 3" in done.stdout
    assert done.stdout.count("same text, agree on") == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"filtered_resps": ["99"]}, "same text, DIFFER: lm_eval 99"),
        ({"filtered_resps": ["[invalid]"]}, "same text, DIFFER: lm_eval [invalid]"),
        ({"exact_match": 2.0}, "but lm_eval says True"),
    ],
)
def test_another_reading_of_the_same_text_is_told_by_the_exit_code(
    run: Path, changes: dict[str, Any], said: str
) -> None:
    rows = logged(run)
    assert rows[1]["exact_match"] == 0.0  # the fake's answer is the last number of the question
    rows[1] |= changes
    done = compared(run, rows)
    assert done.returncode == 1 and said in done.stdout
    assert "read differently out of the same text: gsm8k-test-0000" in done.stdout


def test_another_text_is_listed_and_no_fault(run: Path) -> None:
    rows = logged(run)
    rows[0] |= {"resps": [["Taking the lot, it is \\boxed{24}"]], "filtered_resps": ["24"], "exact_match": 1.0}
    done = compared(run, rows[:2])
    assert done.returncode == 0, done.stderr
    assert "other text (from character 11), DIFFER: lm_eval 24" in done.stdout
    assert "2 problems: the same text 1, the same answer 1" in done.stdout and "; 1 only on one side" in done.stdout


def test_what_cannot_be_compared_is_said(run: Path) -> None:
    rows = logged(run)
    for row in rows:
        row["arguments"]["gen_args_0"]["arg_0"] = "in other words"
    done = compared(run, rows)
    assert done.returncode == 2 and "no problem was asked in the same words by both" in done.stderr
    done = compared(run, [{"resps": []}])
    assert done.returncode == 2 and "samples.jsonl:1 is no sample of a generating task" in done.stderr
