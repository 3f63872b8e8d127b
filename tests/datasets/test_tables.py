"""CSV and Parquet files of the user's own."""

from __future__ import annotations

import gzip
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tandem.datasets import load_dataset
from tandem.errors import UsageError


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        '\ufeffproblem,answer,subject,id\r\n"What is ""1+1"",\r\nplease?",2,sums,\r\nWhy?,,,q7\r\n', "utf-8"
    )
    first, second = load_dataset(path)
    assert (first.id, first.question, first.reference) == ("mine-00003", 'What is "1+1",\r\nplease?', "2")
    assert first.metadata == {"subject": "sums"}
    assert (second.id, second.question, second.reference, second.metadata) == ("q7", "Why?", None, {})
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [p.question for p in load_dataset(packed)] == [first.question, second.question]


def test_csv_with_named_fields(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,gold,area\n1+1,2,sums\n")
    (problem,) = load_dataset(path, fields={"problem": "text", "answer": "gold", "subject": "area"})
    assert (problem.question, problem.reference, problem.metadata["subject"]) == ("1+1", "2", "sums")


@pytest.mark.parametrize(
    "content",
    [
        "problem, answer\n1+1, 2\n",
        'problem, answer\n"1+1", "2"\n',
        " problem ,answer\n1+1,2\n",
        "problem;answer\n1+1;2\n",
        '"problem";"answer"\r\n"1+1";"2"\r\n',
        "problem\tanswer\n1+1\t2\n",
        "problem,expected\n1+1,2\n",
        "problem,expected_answer\n1+1,2\n",
        "question;target\n1+1;2\n",
        '"problem, in words";problem;answer\nx;1+1;2\n',
    ],
)
def test_headers_as_spreadsheets_and_people_write_them(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content)
    (problem,) = load_dataset(path)
    assert (problem.question, problem.reference) == ("1+1", "2")


def test_a_space_behind_a_comma_stays_where_the_header_has_none(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("problem,answer\n1+1,New York\nA; B?,x; y\n")
    assert [p.reference for p in load_dataset(path)] == ["New York", "x; y"]


@pytest.mark.parametrize("missing", ["NaN", "null", '""', '"  "'])
def test_a_reference_that_is_none_is_none(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{{"problem": "1+1", "answer": {missing}}}\n{{"problem": "1+2", "answer": 3}}\n')
    assert [p.reference for p in load_dataset(path)] == [None, "3"]


def test_an_infinite_reference_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"problem": "1+1", "answer": 2}\n{"problem": "1+2", "answer": Infinity}\n')
    with pytest.raises(UsageError, match=r":2: the field 'answer' is infinite"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"problem,answer\n1+1,2\n1+2,3,4\n", r":3: the row has 3 cells, the header 2"),
        (b"problem,answer\n1+1\n", r":2: the row has 1 cells, the header 2"),
        (b"problem,problem\n1,2\n", r":1: the column 'problem' occurs twice"),
        (b"question_text,answer\n1+1,2\n", r":2: no field problem or question or prompt or text; .*question_text"),
        (b'problem\n1+1\n"never closed\n', r":3: not valid CSV \(unexpected end of data\)"),
        (b"problem\n1+1\n\xff\xfe\n", r": not UTF-8 text"),
        (b"problem,id\n1,a\n2,a\n", r":3: the id 'a' is already on line 2"),
        (b"problem\n" + b"x" * 200_000 + b"\n", r":2: the problem has 200,000 characters; at most 100,000"),
        (b"", r"holds no problems"),
        (b"problem,answer\n", r"holds no problems"),
    ],
)
def test_a_bad_csv_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 400


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "mine.parquet"
    columns = {"q": ["1+1", "2+2"], "answer": [2, 4], "tests": [None, ["assert f() == 4"]], "level": [1, None]}
    parquet.write_table(pyarrow.table(columns), path)
    first, second = load_dataset(path, fields={"problem": "q"})
    assert (first.id, first.question, first.reference, first.task) == ("mine-00001", "1+1", "2", "math")
    assert first.metadata == {"level": "1"} and second.metadata == {}
    assert second.task == "code" and second.tests and second.tests.code == "assert f() == 4\n"
    parquet.write_table(pyarrow.table({"problem": ["a", "b"], "answer": ["1", "2"], "id": ["x", "x"]}), path)
    with pytest.raises(UsageError, match=r"mine\.parquet:2: the id 'x' is already on line 1"):
        load_dataset(path)
    parquet.write_table(pyarrow.table({"problem": [date(2026, 1, 1)]}), path)
    with pytest.raises(UsageError, match=r"mine\.parquet:1: the field 'problem' must be text .* this is a date"):
        load_dataset(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UsageError, match=r"mine\.parquet:1: not a Parquet file, or damaged") as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"PAR1")
    (tmp_path / "pyarrow.py").write_text("raise ImportError('not here')\n")
    script = "from tandem.datasets import load_dataset; load_dataset('mine.parquet')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("reading Parquet files needs an extra: pip install 'tandem-reasoning[parquet]'")
