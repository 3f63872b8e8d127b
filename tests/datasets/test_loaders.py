from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tandem.datasets import load_dataset
from tandem.errors import UsageError


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh TANDEM_DATA_DIR; the working folder is empty too."""
    (tmp_path / "here").mkdir()
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.jsonl",
        {"question": "What is 2+2?", "target": 4, "subject": "sums"},
        "",
        {"prompt": "Say hello", "id": 17, "task": "choice", "answer": "A"},
        {"text": "Which function $f$ is it?", "reference": "x^2 + 1"},
        {"problem": "Why?", "answer": None},
    )
    problems = load_dataset(path)
    assert [p.id for p in problems] == ["mine-00001", "17", "mine-00004", "mine-00005"]
    assert [p.question for p in problems] == ["What is 2+2?", "Say hello", "Which function $f$ is it?", "Why?"]
    assert [p.reference for p in problems] == ["4", "A", "x^2 + 1", None]
    assert [p.task for p in problems] == ["math", "choice", "math", "general"]
    assert problems[0].metadata == {"subject": "sums"}


def test_fields_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"q": "1+1", "a": "2", "key": "k1", "answer": "wrong one"})
    (problem,) = load_dataset(str(path), fields={"problem": "q", "answer": "a", "id": "key"})
    assert (problem.id, problem.question, problem.reference) == ("k1", "1+1", "2")


def test_gzip_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps({"problem": "π?"}, ensure_ascii=False).encode()))
    (problem,) = load_dataset(path)
    assert (problem.id, problem.question) == ("mine-00001", "π?")


GOOD = {"problem": "1+1", "answer": "2"}
BAD_LINES = [
    ('{"problem": "1+', "not valid JSON"),
    ("[1, 2]", "must be a JSON object"),
    ("[" * 100_000, "not valid JSON"),
    ({"answer": "2"}, "no field problem or question or prompt or text"),
    ({"problem": "  "}, "the problem is empty"),
    ({"problem": "x" * 100_001}, "100,001 characters"),
    ({"problem": ["1+1"]}, "must be text or a number"),
    ({"problem": True}, "must be text or a number"),
    ('{"problem": "\\ud800"}', "a lone surrogate"),
    ({"problem": "1+1", "task": "maths"}, "Did you mean math?"),
    ({"problem": "1+1", "id": "bad-00001"}, "already on line 1"),
]


@pytest.mark.parametrize(("line", "complaint"), BAD_LINES, ids=[complaint for _, complaint in BAD_LINES])
def test_a_bad_line_is_named(tmp_path: Path, line: Any, complaint: str) -> None:
    path = write(tmp_path / "bad.jsonl", GOOD, line, GOOD)
    with pytest.raises(UsageError) as caught:
        load_dataset(path)
    assert f"{path}:2: " in str(caught.value)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"problem": "1"}\n{"problem": "\xff"}\n')
    with pytest.raises(UsageError, match=r"bad\.jsonl:2: not UTF-8"):
        load_dataset(path)


def test_a_gzip_file_cut_short_or_damaged(tmp_path: Path) -> None:
    whole = gzip.compress("".join(json.dumps({"problem": str(i * 7919)}) + "\n" for i in range(5000)).encode())
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"cut\.jsonl\.gz:\d+: the compressed file is truncated"):
        load_dataset(path)
    assert len(load_dataset(path, limit=10)) == 10  # read as a stream: what came before is fine
    path.write_bytes(b"not gzip at all")
    with pytest.raises(UsageError, match="cannot be read"):
        load_dataset(path)


def test_faults_of_the_call(tmp_path: Path, places: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    write(tmp_path / "empty.jsonl")
    for call, complaint in [
        (lambda: load_dataset("gsm8"), "Did you mean gsm8k"),
        (lambda: load_dataset("gsm8k", split="tset"), "Did you mean test"),
        (lambda: load_dataset(tmp_path / "none.jsonl"), "no such file"),
        (lambda: load_dataset(tmp_path), "is a folder; name the file in it"),
        (lambda: load_dataset(path, split="train"), "a file has no splits"),
        (lambda: load_dataset(path, limit=0), "at least 1"),
        (lambda: load_dataset(path, fields={"porblem": "q"}), "Did you mean problem"),
        (lambda: load_dataset(path, fields={"answer": "gold"}), "no answer in the field gold"),
        (lambda: load_dataset("gsm8k", fields={"answer": "gold"}), "fields are for files"),
        (lambda: load_dataset(path, fields={"tests": "checks"}), "a.jsonl:1: no tests in the field checks"),
        (lambda: load_dataset(path, subjects=["algebra"]), "has no subjects to filter by"),
        (lambda: load_dataset(write(tmp_path / "a.xlsx", GOOD)), "not a supported format"),
        (lambda: load_dataset(tmp_path / "empty.jsonl"), "holds no problems"),
    ]:
        with pytest.raises(UsageError) as caught:
            call()
        assert complaint in str(caught.value)


def test_subjects_and_levels_are_chosen(tmp_path: Path) -> None:
    rows = [{"problem": f"{i}", "subject": s, "level": v} for i, (s, v) in enumerate(KINDS)]
    path = write(tmp_path / "kinds.jsonl", *rows, {"problem": "of no kind"})
    algebra = [p.question for p in load_dataset(path, subjects=["algebra"])]
    assert algebra == ["0", "1"]
    assert [p.question for p in load_dataset(path, subjects=["Number Theory", "algebra"])] == ["0", "1", "2", "3"]
    assert [p.question for p in load_dataset(path, levels=["5"])] == ["1", "3"]
    assert [p.question for p in load_dataset(path, subjects=["number_theory"], levels=["level 5"])] == ["3"]
    assert [p.question for p in load_dataset(path, levels=["5"], limit=1)] == ["1"]
    with pytest.raises(UsageError, match=r"unknown subject of .*kinds\.jsonl 'algebar'\. Did you mean Algebra\?"):
        load_dataset(path, subjects=["Algebra", "algebar"])
    with pytest.raises(UsageError, match=r"unknown level of .* '6'\."):
        load_dataset(path, levels=["6"])
    with pytest.raises(UsageError, match="no problem is left"):
        load_dataset(path, subjects=["geometry"], levels=["5"])


KINDS = [
    ("Algebra", 1),
    ("Algebra", "Level 5"),
    ("number_theory", 2),
    ("number_theory", 5),
    ("Geometry", 1),
]


# for i in $(seq 0 99); do echo "$(printf 7:p$i | sha256sum) p$i"; done | sort | head -5
SAMPLE = ["p77", "p2", "p39", "p81", "p63"]


def test_sampling_is_the_same_everywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "n.jsonl", *({"problem": f"{i}+1", "id": f"p{i}"} for i in range(100)))
    ids = [p.id for p in load_dataset(path, limit=5, seed=7)]
    assert ids == SAMPLE
    assert [p.id for p in load_dataset(path, seed=7)][:5] == ids
    assert ids != [p.id for p in load_dataset(path, limit=5, seed=8)]
    assert [p.id for p in load_dataset(path, limit=3)] == ["p0", "p1", "p2"]
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert [p.id for p in load_dataset(path, limit=5, seed=7)] == ids


def test_public_sets_by_name(places: Path) -> None:
    write(places / "math500.jsonl", {"problem": "P", "answer": r"\pi", "subject": "algebra", "unique_id": "math500/0"})
    boxed = {
        "problem": "P",
        "solution": r"so \boxed{1}, no: \boxed{\frac{1}{2}}",
        "type": "geometry",
        "level": "Level 5",
    }
    write(places / "math_train.jsonl", boxed, {"problem": "Q", "solution": r"there are \boxed{} primes"})
    write(places / "gsm8k_test.jsonl", {"question": "Q", "answer": "1000 + 234 = 1234\n#### 1,234"})
    write(places / "starter.jsonl", {"id": "starter-001", "problem": "P", "answer": "8", "subject": "words"})
    (five,) = load_dataset("math500")
    assert (five.id, five.reference, five.metadata) == ("math500/0", r"\pi", {"subject": "algebra"})
    train, blank = load_dataset("math500", split="train")
    assert (train.id, train.reference) == ("math-train-00001", r"\frac{1}{2}")
    assert train.metadata == {"subject": "geometry", "level": "Level 5"}
    assert blank.reference is None
    assert load_dataset("math", split="train") == [train, blank]
    (grade_school,) = load_dataset("gsm8k")
    assert (grade_school.id, grade_school.reference) == ("gsm8k-test-00001", "1234")
    (starter,) = load_dataset("starter")
    assert (starter.id, starter.reference, starter.metadata) == ("starter-001", "8", {"subject": "words"})
    assert {p.task for p in (five, train, grade_school, starter)} == {"math"}


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("gsm8k_test.jsonl", {"question": "Q", "answer": "no mark"}),
        ("math_train.jsonl", {"problem": "P", "solution": "no box"}),
        ("math500.jsonl", {"problem": "P", "unique_id": "u"}),
    ],
)
def test_a_public_set_without_its_answers_is_refused(places: Path, file: str, row: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r":1: no answer in the field"):
        load_dataset(write(places / file, row))


def test_the_file_of_a_public_set_by_path(tmp_path: Path) -> None:
    path = write(tmp_path / "gsm8k_test.jsonl", {"question": "Q", "answer": "1+1=2\n#### 2"})
    (problem,) = load_dataset(path)
    assert (problem.id, problem.reference) == ("gsm8k-test-00001", "2")
    with pytest.raises(UsageError, match="this file is gsm8k's split 'test', not 'train'"):
        load_dataset(path, split="train")
    (own,) = load_dataset(path, fields={"answer": "answer"})
    assert own.reference == "1+1=2\n#### 2"


def test_order_of_places(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data").mkdir()
    write(Path("data/gsm8k_test.jsonl"), {"question": "in the working folder", "answer": "#### 1"})
    write(places / "gsm8k_test.jsonl", {"question": "in TANDEM_DATA_DIR", "answer": "#### 1"})
    assert load_dataset("gsm8k")[0].question == "in TANDEM_DATA_DIR"
    monkeypatch.delenv("TANDEM_DATA_DIR")
    assert load_dataset("gsm8k")[0].question == "in the working folder"


def test_what_is_not_found_says_where_it_looked(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    with pytest.raises(UsageError) as caught:
        load_dataset("math", split="test")
    for part in (
        str(places.resolve()),
        str(Path("data").resolve()),
        "math_test.jsonl",
        "set TANDEM_DATA_DIR",
        "pip install 'tandem-reasoning[hub]'",
        "github",
    ):
        assert part in str(caught.value)


def test_an_untried_split_says_so(places: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(places / "math_test.jsonl", {"problem": "P", "solution": r"\boxed{1}", "type": "algebra"})
    assert load_dataset("math", split="test")[0].id == "math-test-00001"
    assert "never tested on the real file" in caplog.text


def test_a_limit_beyond_all_counting_takes_everything(tmp_path: Path) -> None:
    path = tmp_path / "UPPER.JSONL"
    path.write_text('{"problem": "What is 2?", "answer": "2"}\n')
    assert len(load_dataset(path, limit=10**20)) == 1
