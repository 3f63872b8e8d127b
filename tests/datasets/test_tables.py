"""CSV and Parquet files of the user's own."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tandem.datasets import load_dataset
from tandem.datasets.formats import read_rows
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


READ = """
import json, sys
from pathlib import Path
from tandem.datasets.formats import read_rows
from tandem.errors import UsageError
rows, error = 0, ""
try:
    for _ in read_rows(Path(sys.argv[1])):
        rows += 1
except UsageError as refused:
    error = str(refused)
# Not ru_maxrss, which begins with the size of the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([rows, error, int(peak.split()[1]) / 1e3]))
"""


@pytest.mark.parametrize(
    ("what", "rows", "said"),
    [
        ("repeated", 2000, ""),
        ("nested", 4, "mine.parquet:5: the row is larger than 64 MiB"),
        ("one", 0, "mine.parquet:1: the row is larger than 64 MiB"),
    ],
)
def test_a_little_parquet_that_stands_for_gigabytes_is_read_within_bounds(
    tmp_path: Path, what: str, rows: int, said: str
) -> None:
    import pyarrow
    from pyarrow import parquet

    large = "x" * (1 << 20)
    if what == "repeated":  # 2 GB of text in a dictionary of one
        places = pyarrow.array([0] * 2000, pyarrow.int32())
        table = pyarrow.table({"problem": pyarrow.DictionaryArray.from_arrays(places, pyarrow.array([large]))})
    elif what == "nested":
        table = pyarrow.table({"problem": ["a"] * 5, "choices": [["a", "b"]] * 4 + [[large] * 65]})
    else:
        table = pyarrow.table({"problem": [large * 65]})
    path = tmp_path / "mine.parquet"
    parquet.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 100_000
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    found, error, megabytes = json.loads(done.stdout)
    assert found == rows and error.endswith(said) and bool(error) == bool(said) and megabytes < 700


def test_parquet_that_says_that_it_is_huge_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "mine.parquet"
    parquet.write_table(pyarrow.table({"problem": [f"{k}+1" for k in range(20)]}), path)
    with monkeypatch.context() as patched:
        patched.setattr("tandem.datasets.formats._VALUES", 19)
        with pytest.raises(UsageError, match=r"mine\.parquet: more than 19 rows"):
            load_dataset(path)
    monkeypatch.setattr("tandem.datasets.formats._CHUNK", 10)
    with pytest.raises(UsageError, match=r"mine\.parquet: a column expands to more than"):
        load_dataset(path)


def test_every_kind_of_value_of_parquet_is_as_arrow_reads_it(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = {
        "problem": [f"p{k}" for k in range(3)],
        "pairs": pyarrow.array([[("k", "v")], [], None], pyarrow.map_(pyarrow.string(), pyarrow.string())),
        "parts": [{"a": [1, 2], "b": "t"}, None, {"a": [], "b": None}],
        "raw": [b"\xff", None, b""],
        "number": [1.5, None, 2.0],
        "dates": [[date(2026, 1, 1)], [], None],
    }
    path = tmp_path / "mine.parquet"
    parquet.write_table(pyarrow.table(kinds), path)
    assert [row for _, row in read_rows(path)] == parquet.read_table(path).to_pylist()
