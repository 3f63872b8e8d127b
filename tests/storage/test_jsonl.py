"""JSON lines under a kill, a full disk and an editor: what was written whole is read again, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.errors import TandemError
from tandem.storage.jsonl import Damage, JsonlWriter, decode, encode, read_at, read_lines, scan

TEXT = st.text(st.characters(codec=None, categories=None), max_size=30)  # half surrogate pairs among them
ROWS = st.lists(st.dictionaries(TEXT.filter(lambda k: k != "crc32"), TEXT | st.integers() | st.none()), max_size=6)


def write(path: Path, *rows: dict[str, Any]) -> bytes:
    with JsonlWriter(path) as writer:
        for row in rows:
            writer.write(row)
    return path.read_bytes()


def aside(path: Path) -> list[dict[str, Any]]:
    return list(read_lines(path.with_name(f"{path.stem}.damaged.jsonl")))


def test_a_line_is_json_that_ends_with_the_checksum_of_what_is_before_it(tmp_path: Path) -> None:
    line = write(tmp_path / "a.jsonl", {"n": 1, "text": "é \u2028 \n"})
    assert line.count(b"\n") == 1
    loaded = json.loads(line)
    assert list(loaded) == ["n", "text", "crc32"] and loaded["text"] == "é \u2028 \n"
    before, _, _ = line.partition(b',"crc32"')
    assert loaded["crc32"] == f"{zlib.crc32(before):08x}"


@given(ROWS)
def test_what_is_written_is_read(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        write(path, *rows)
        assert list(read_lines(path)) == rows
        assert [decode(line.raw) for line in scan(path)] == rows


@given(ROWS, st.data())
def test_a_file_cut_at_any_byte_keeps_its_whole_lines_and_is_written_on(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        whole = write(path, *rows)
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        kept = [rows[i] for i in range(len(rows)) if cut >= sum(len(encode(row)) for row in rows[: i + 1]) - 1]
        damages: list[Damage] = []
        assert list(read_lines(path, damages.append)) == kept
        write(path, {"after": 1}, {"after": 2})
        assert list(read_lines(path, lambda damage: pytest.fail(str(damage)))) == [*kept, {"after": 1}, {"after": 2}]
        torn = [row["text"].encode(errors="surrogateescape") for row in aside(path)]
        assert torn == [damage.raw for damage in damages]
        assert b"".join(map(encode, kept)) + b"".join(torn) in (whole[:cut], whole[:cut] + b"\n")  # every byte is kept


@given(st.data())
def test_a_changed_byte_is_never_taken_for_the_row_that_was_written(data: st.DataObject) -> None:
    row = {"problem": "p1", "correct": False, "text": "the answer is \\boxed{12}"}
    line = bytearray(encode(row))
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    mark = len(line) - 20
    if mark <= at < len(line) - 11:
        return  # the checksum's own name is gone, and with it what it could say
    with pytest.raises(ValueError, match=r"checksum|JSON"):
        decode(bytes(line[:-1]))


def test_damaged_lines_are_named_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = write(path, {"n": 1}, {"n": 2}, {"n": 3}).splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"n":2', b'"n":7')
    path.write_bytes(b"".join([lines[0], b"\n", lines[1], b"[1]\n", b"\xff{}\n", lines[2], b'{"n": 4, "te']))
    damages: list[Damage] = []
    assert [row["n"] for row in read_lines(path, damages.append)] == [1, 3]
    assert [(damage.number, damage.reason) for damage in damages] == [
        (3, "its checksum does not match"),
        (4, "it is not a JSON object"),
        (5, "it is not a JSON object"),
        (7, "it was cut short"),
    ]
    assert str(damages[0]) == f"{path}, line 3: its checksum does not match; it is skipped"
    assert all(path.read_bytes()[damage.offset :].startswith(damage.raw) for damage in damages)


def test_lines_without_a_checksum_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text('{"n": 1}\n\n{"n": 2}')
    assert list(read_lines(path)) == [{"n": 1}, {"n": 2}]
    write(path, {"n": 3})  # the last line had no newline, and was whole
    assert list(read_lines(path)) == [{"n": 1}, {"n": 2}, {"n": 3}] and aside(path) == []
    assert list(read_lines(tmp_path / "absent.jsonl")) == []


def test_a_torn_line_is_copied_before_it_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = write(path, {"n": 1}, {"text": "é" * 100_000})
    path.write_bytes(whole[:-101])  # within a character
    with JsonlWriter(path) as writer:
        assert writer.torn is not None and writer.torn.offset == len(encode({"n": 1}))
        assert "the last line: it was cut short" in str(writer.torn)
        writer.write({"n": 2})
    assert [row["n"] for row in read_lines(path)] == [1, 2]
    (row,) = aside(path)
    assert row["text"].encode(errors="surrogateescape") == whole[len(encode({"n": 1})) : -101]
    with JsonlWriter(path) as writer:
        assert writer.torn is None


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.symlink_to("/dev/full")
    with JsonlWriter(path) as writer, pytest.raises(TandemError) as raised:
        writer.write({"n": 1})
    assert str(raised.value) == f"cannot write {path}: No space left on device (free some space there)"


def test_a_write_that_was_interrupted_is_neither_lost_nor_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    real = os.write

    def interrupted(fd: int, data: bytes, whole: bool) -> int:
        real(fd, data if whole else data[:7])
        raise KeyboardInterrupt

    with JsonlWriter(path) as writer:
        for n, whole in enumerate((True, False)):
            monkeypatch.setattr(os, "write", partial(interrupted, whole=whole))
            with pytest.raises(KeyboardInterrupt):
                writer.write({"n": n})
            monkeypatch.setattr(os, "write", real)
            writer.write({"after": n})
    assert list(read_lines(path)) == [{"n": 0}, {"after": 0}, {"after": 1}]


LIMITED = """
import resource, sys
from pathlib import Path
from tandem.errors import TandemError
from tandem.storage.jsonl import JsonlWriter
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
with JsonlWriter(path) as writer:
    for n in range(30):
        try:
            writer.write({"n": n, "text": "x" * 100})
        except TandemError as error:
            print(error)
            assert path.read_bytes().endswith(b'"}\\n'), "a part of the row is left"
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    writer.write({"n": "after"})  # there is room again
"""


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE")
def test_a_row_that_fits_only_in_part_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout == f"cannot write {path}: File too large (the limit on file sizes is reached (ulimit -f))\n"
    rows = list(read_lines(path, lambda damage: pytest.fail(str(damage))))
    assert [row["n"] for row in rows] == [*range(len(rows) - 1), "after"] and len(rows) > 3


def test_a_file_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(TandemError, match=r"cannot write .*a folder has that name"):
        JsonlWriter(tmp_path / "a.jsonl")
    with pytest.raises(TandemError, match="cannot read"):
        list(read_lines(tmp_path / "a.jsonl"))


def test_a_row_is_read_again_at_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"n": n, "text": "ä" * n} for n in range(5)]
    path.write_bytes(b"".join(map(encode, rows)) + b'{"n": 5}\n{"n": 6')
    offsets = [line.offset for line in scan(path)]
    with path.open("rb") as file:
        assert [read_at(file, offset) for offset in reversed(offsets[:6])] == [{"n": 5}, *reversed(rows)]
        with pytest.raises(ValueError, match="not a JSON object"):
            read_at(file, offsets[6])
