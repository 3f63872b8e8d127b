"""Files written whole: in one step, by several writers at once, private where they must be, and nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from tandem.errors import TandemError
from tandem.storage.files import replacing, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_take_the_place_of_a_file_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, read in (("a\r\nä\n", "a\r\nä\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")):
        write_whole(path, content)
        assert path.read_bytes() == read and names(tmp_path) == ["file"]


def test_the_folder_is_made_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    with pytest.raises(TandemError, match=r"cannot write .*file: No such file"):
        write_whole(path, "")
    assert names(tmp_path) == []
    write_whole(path, "text", parents=True)
    assert path.read_text() == "text"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_a_private_file_is_never_readable_for_others(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        for private, mode in ((True, 0o600), (False, 0o644)):
            with replacing(tmp_path / "file", private=private):
                (partial,) = tmp_path.glob(".file.*.partial")
                assert stat.S_IMODE(partial.stat().st_mode) == mode
            assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    finally:
        os.umask(mask)


def test_what_was_there_stays_when_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "before")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before" and names(tmp_path) == ["file"]


def test_a_folder_of_that_name_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(TandemError, match=r"cannot write .*file: Is a directory \(a folder has that name; take anoth"):
        write_whole(tmp_path / "file", "text")
    assert names(tmp_path) == ["file"]


def keep_writing(path: Path, letter: str) -> None:
    for _ in range(200):
        write_whole(path, letter * 5000, durable=False)


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be replaced there")
def test_two_writers_of_one_file_never_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "a" * 5000)
    spawn = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    writers = [spawn.Process(target=keep_writing, args=(path, letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_text())
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {"a" * 5000, "b" * 5000} and names(tmp_path) == ["file"]


def hang(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half")
        file.flush()
        time.sleep(60)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_what_a_killed_writer_leaves_is_removed_by_a_later_one(tmp_path: Path) -> None:
    path = tmp_path / "fi[l]e"
    writer = multiprocessing.get_context("fork").Process(target=hang, args=(path,))
    writer.start()
    while not (left := list(tmp_path.iterdir())) or not left[0].stat().st_size:
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    write_whole(path, "first")
    assert len(names(tmp_path)) == 2  # it may be at work still
    os.utime(left[0], (0, 0))
    write_whole(tmp_path / "another", "")
    assert len(names(tmp_path)) == 3
    write_whole(path, "second")
    assert names(tmp_path) == ["another", "fi[l]e"] and path.read_text() == "second"
