"""A run's folder: taken up where it stopped, never by two at once; whatever befalls it, nothing computed is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tandem.insight
from tandem.errors import TandemError, UsageError
from tandem.runs.manifest import differences, name_differences, prompts_digest
from tandem.runs.store import RunStore
from tandem.storage.files import file_error
from tandem.storage.jsonl import encode, read_lines

PAIR: dict[str, Any] = {"mentor": {"name": "fake"}, "intern": {"name": "fake"}}
MANIFEST: dict[str, Any] = {"run": {"strategy": "tandem", **PAIR}, "started": "today"}


def record(problem: str, *, error: str | None = None, text: str = "42") -> dict[str, Any]:
    return {"problem": problem, "correct": error is None, "error": error, "ledger": {"entries": []}, "text": text}


def started(folder: Path, *records: dict[str, Any]) -> Path:
    with RunStore.create(folder, MANIFEST) as store:
        for row in records:
            store.append(row)
    return folder


def test_the_last_record_of_a_problem_counts_in_the_order_of_the_first(tmp_path: Path) -> None:
    folder = started(tmp_path / "run", record("b", error="no luck"), record("a"), record("b", text="new"), record("c"))
    with RunStore.reopen(folder, MANIFEST) as store:
        assert [(r["problem"], r["text"]) for r in store.records()] == [("b", "new"), ("a", "42"), ("c", "42")]
        assert store.done() == {"a", "b", "c"} and store.ids() == ["b", "a", "c"]
        assert [r["problem"] for r in store.records(["c", "b"])] == ["c", "b"]
        store.append(record("c", error="worse"))
        assert store.done() == {"a", "b"}
        assert [r["error"] for r in store.records()] == [None, None, "worse"]
        assert store.warnings == []
    assert len((folder / "records.jsonl").read_bytes().splitlines()) == 5  # nothing was overwritten


def test_a_run_is_opened_for_reading_while_it_goes_on(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run", MANIFEST) as store:
        store.append(record("a"))
        with (tmp_path / "run" / "records.jsonl").open("ab") as file:
            file.write(encode(record("b"))[:40])  # as when a reader comes in the midst of a write
        reader = RunStore.open_for_reading(tmp_path / "run")
        assert reader.is_being_written() and reader.summary() is None
        assert [r["problem"] for r in reader.records()] == ["a"] and reader.warnings == []
        with pytest.raises(TandemError, match="not open for writing"):
            reader.append(record("c"))
    reader = RunStore.open_for_reading(tmp_path / "run")
    assert not reader.is_being_written()
    assert [r["problem"] for r in reader.records()] == ["a"]
    (warning,) = reader.warnings
    assert "records.jsonl, line 2: it was cut short" in warning


def test_the_end_writes_the_summary_and_lets_go(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, MANIFEST)
    store.append(record("a"))
    store.finish({"n": 1})
    assert [r["problem"] for r in store.records()] == ["a"]  # it can still be read
    again = RunStore.reopen(tmp_path, MANIFEST)
    assert again.summary() == {"n": 1} and again.manifest() == MANIFEST
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".partial"]


HOLDER = """
import sys, time
from pathlib import Path
from tandem.runs.store import RunStore
SPEC = {"name": "fake"}
store = RunStore.create(Path(sys.argv[1]), {"run": {"strategy": "tandem", "mentor": SPEC, "intern": SPEC}})
store.append({"problem": "a", "correct": True, "error": None, "ledger": {"entries": []}})
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="flock, SIGKILL")
def test_two_writers_are_kept_apart_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "ready\n"
        with pytest.raises(UsageError, match=rf"{folder} is being written by another process \({holder.pid} on "):
            RunStore.reopen(folder, MANIFEST)
        assert RunStore.open_for_reading(folder).is_being_written()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
    with RunStore.reopen(folder, MANIFEST) as store:
        assert store.done() == {"a"}
        with pytest.raises(UsageError, match=rf"another process \({os.getpid()} on"):
            RunStore.reopen(folder, MANIFEST)  # two in one process, too


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    started(tmp_path / "run", record("a"))
    with pytest.raises(UsageError, match=r"holds a run already.*--resume"):
        RunStore.create(tmp_path / "run", MANIFEST)
    started(tmp_path / "bare")
    RunStore.create(tmp_path / "bare", MANIFEST).close()  # a start that failed does not take its folder
    (tmp_path / "bare" / "calls.jsonl").write_bytes(encode({"paid": "for"}))
    with pytest.raises(UsageError, match="holds a run already"):  # but what was paid does
        RunStore.create(tmp_path / "bare", MANIFEST)


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UsageError, match="holds no run"):
            RunStore.reopen(folder, MANIFEST)
        with pytest.raises(UsageError, match="holds no run"):
            RunStore.open_for_reading(folder)
    (tmp_path / "run.json").write_text('{"name": "something else"}')
    with pytest.raises(TandemError, match=r"run\.json lacks 'run\.strategy'; it was written by an unknown version"):
        RunStore.open_for_reading(tmp_path)
    with pytest.raises(TandemError, match=r"run\.json lacks 'run\.strategy'"):
        RunStore.create(tmp_path, MANIFEST)  # nor is it overwritten
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    (tmp_path / "run.json").write_text('{"run": {')
    with pytest.raises(TandemError, match=r"run\.json is damaged"):
        RunStore.open_for_reading(tmp_path)


def test_another_run_is_refused_with_the_differences_that_matter_first(tmp_path: Path) -> None:
    before = {
        "strategy": "tandem",
        "mentor": {"name": "fake", "parameters": 7e9},
        "intern": {"name": "fake"},
        "settings": {"sampling": {"seed": None}},
        "dataset": {"name": "math500", "problems_sha256": "a" * 64},
        "prompts_sha256": "b" * 64,
    }
    RunStore.create(tmp_path, {"run": before}).close()
    RunStore.reopen(tmp_path, {"run": before, "started": "another day"}).close()
    now = {
        **before,
        "mentor": {"name": "gpt-4o", "parameters": None},
        "settings": {"sampling": {"seed": 7}},
        "dataset": {"name": "math500", "problems_sha256": "c" * 64},
        "prompts_sha256": "d" * 64,
    }
    with pytest.raises(UsageError) as raised:
        RunStore.reopen(tmp_path, {"run": now})
    line = str(raised.value)
    assert line.startswith(f"{tmp_path} is another run: it differs in mentor.name ('fake', now 'gpt-4o'), dataset.prob")
    assert line.endswith(" and 2 more") and len(line) < 300 and "\n" not in line
    assert [d.path for d in differences(before, now)] == [
        *("mentor.name", "dataset.problems_sha256", "settings.sampling.seed", "prompts_sha256", "mentor.parameters"),
    ]
    assert name_differences(differences({"a": 1}, {})) == "a (1, now absent)"


def test_other_prompts_have_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompts_digest()
    assert len(before) == 64
    for name, value in (("_INSIGHTS", "Hints:\n"), ("_GO_ON", "Go on."), ("_OPENING", "Aim:")):
        with monkeypatch.context() as patch:
            patch.setattr(tandem.insight, name, value)
            assert prompts_digest() != before
    monkeypatch.setitem(tandem.insight._ADVISE, "choice", "Advise.")
    assert prompts_digest() != before


def test_an_edited_line_is_set_aside_and_its_problem_is_not_done(tmp_path: Path) -> None:
    folder = started(tmp_path / "run", record("a"), record("b"), record("c"))
    path = folder / "records.jsonl"
    edited = path.read_bytes().replace(b'"b","correct":true', b'"b","correct":null')
    path.write_bytes(edited + b'{"not": "a record"}\n')
    for _ in range(2):
        with RunStore.reopen(folder, MANIFEST) as store:
            assert store.done() == {"a", "c"}
            assert [r["problem"] for r in store.records()] == ["a", "c"]
            assert store.warnings == [
                f"{path}, line 2: its checksum does not match; it is skipped",
                f"{path}, line 4: it is not a record; it is skipped",
            ]
    aside = list(read_lines(folder / "records.damaged.jsonl"))
    assert [(row["line"], row["text"].encode()) for row in aside] == [
        (number, edited.splitlines()[1] if number == 2 else b'{"not": "a record"}') for number in (2, 4)
    ]  # once each, however often it was opened
    assert path.read_bytes().startswith(edited)


@pytest.mark.parametrize(
    "change", [{"ledger": {"entries": [{"rle": "mentor"}]}}, {"seconds": "long"}, {"level": ["x"]}]
)
def test_an_edited_record_without_its_checksum_must_still_be_a_record(tmp_path: Path, change: dict[str, Any]) -> None:
    whole = {"seconds": 1.0, "synthetic": False, "level": None, "truncated": False, "answered_by": "intern"}
    folder = started(tmp_path / "run", *(record(name) | whole for name in "ab"))
    path = folder / "records.jsonl"
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "crc32"}) + "\n" for row in rows))
    assert RunStore.open_for_reading(folder).ids() == ["a", "b"]
    path.write_text(json.dumps({**rows[0], **change} | {"crc32": 0}) + "\n" + json.dumps(rows[1]) + "\n")
    store = RunStore.open_for_reading(folder)
    assert store.ids() == ["b"] and store.warnings == [f"{path}, line 1: it is not a record; it is skipped"]


def test_a_file_that_was_edited_throughout_is_said_in_few_lines(tmp_path: Path) -> None:
    folder = started(tmp_path / "run", *(record(f"p{i}") for i in range(300)))
    path = folder / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"42"', b'"43"'))
    with RunStore.reopen(folder, MANIFEST) as store:
        assert store.done() == set() and len(store.warnings) == 6
        assert store.warnings[-1] == f"{path}: 295 more lines are damaged like that"
    assert len(list(read_lines(folder / "records.damaged.jsonl"))) == 300


@given(st.data())
def test_records_cut_anywhere_lose_only_what_was_being_written(data: st.DataObject) -> None:
    rows = [record(f"p{i}", text="é" * i) for i in range(4)]
    with tempfile.TemporaryDirectory() as name:
        folder = started(Path(name) / "run", *rows)
        path = folder / "records.jsonl"
        cut = data.draw(st.integers(0, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:cut])
        ends = [sum(len(encode(row)) for row in rows[: i + 1]) - 1 for i in range(4)]
        kept = {f"p{i}" for i in range(4) if cut >= ends[i]}
        with RunStore.reopen(folder, MANIFEST) as store:
            assert store.done() == kept
            assert len(store.warnings) == (cut not in {0, *ends, *(end + 1 for end in ends)})
            for row in rows:
                if row["problem"] not in store.done():
                    store.append(row)
        with RunStore.reopen(folder, MANIFEST) as store:
            assert list(store.records()) == rows and store.warnings == []


def no_space(fd: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_clear_line_and_what_is_done_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = started(tmp_path / "run")
    (folder / "records.jsonl").symlink_to("/dev/full")
    with RunStore.create(folder, MANIFEST) as store:
        with pytest.raises(TandemError, match=r"cannot write .*records\.jsonl: No space left on device \(free some"):
            store.append(record("a"))
        assert store.done() == set()
        monkeypatch.setattr("tandem.storage.files.os.fsync", no_space)
        with pytest.raises(TandemError, match=r"cannot write .*summary\.json: No space left"):
            store.finish({"n": 0})
    assert sorted(path.name for path in folder.iterdir()) == ["records.jsonl", "run.json", "run.lock"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TandemError, match=r"cannot create .*: Not a directory"):
        RunStore.create(tmp_path / "file" / "run", MANIFEST)


READ_ONLY = """
import json, os, sys
from pathlib import Path
from tandem.errors import TandemError
from tandem.runs.store import RunStore
folder = Path(sys.argv[1])
manifest = json.loads((folder / "old" / "run.json").read_text())
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
for start in (lambda: RunStore.create(folder / "new", manifest), lambda: RunStore.reopen(folder / "old", manifest)):
    try:
        start()
    except TandemError as error:
        print(error)
print([record["problem"] for record in RunStore.open_for_reading(folder / "old").records()])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_a_read_only_folder_is_one_clear_line_and_can_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        started(Path(name) / "old", record("a"))
        for path in (Path(name) / "old", Path(name)):
            path.chmod(0o555)
        try:
            ran = subprocess.run(
                [sys.executable, "-c", READ_ONLY, name], capture_output=True, text=True, timeout=60, check=True
            )
        finally:
            for path in (Path(name) / "old", Path(name)):
                path.chmod(0o755)
    created, reopened, read = ran.stdout.splitlines()
    assert created == f"cannot create {name}/new: Permission denied (take a folder that you may write to)"
    assert reopened == f"cannot write {name}/old/run.lock: Permission denied (take a folder that you may write to)"
    assert read == "['a']"


def test_the_manifest_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = started(tmp_path / "run")
    assert json.loads((folder / "run.json").read_text()) == MANIFEST
    monkeypatch.setattr("tandem.storage.files.os.fsync", no_space)
    with pytest.raises(TandemError, match=r"cannot write .*run\.json: No space"):
        RunStore.create(folder, {"run": {"strategy": "another", **PAIR}})
    assert json.loads((folder / "run.json").read_text()) == MANIFEST


def test_a_file_that_may_not_be_read_is_not_answered_with_advice_on_writing(tmp_path: Path) -> None:
    refused = PermissionError(errno.EACCES, "Permission denied")
    assert str(file_error(tmp_path, refused, "read")) == f"cannot read {tmp_path}: Permission denied"
    assert str(file_error(tmp_path, refused)).endswith("(take a folder that you may write to)")
