"""Hostile programs in real sandboxes. Without bubblewrap these fail: `make system` installs it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import ESCAPES, FORMS, HOGS, LIARS, RIGHT, TESTS

from tandem.children import start_process
from tandem.errors import TandemError, UsageError
from tandem.grading.sandbox import Kind, ProgramVerdict, Sandbox, Submission, open_sandbox, probe

pytestmark = pytest.mark.slow

KINDS: tuple[Kind, ...] = ("bwrap", "process")
SECONDS = 1.0
# What a process alone is kept from too; it may fill /tmp.
ROUGH = (
    "an endless sleep",
    "signals ignored",
    "a fork bomb",
    "a thread bomb",
    "a daemon",
    "a memory hog",
    "a huge text",
)


@pytest.fixture(scope="module", params=KINDS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return open_sandbox(request.param, seconds=SECONDS)


def children(of: int) -> set[int]:
    """All processes below `of`, by the kernel's table."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        parents[int(fields["Pid"])] = int(fields["PPid"])
    found = {of}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {of}


def running(pids: set[int]) -> set[int]:
    alive = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            alive.add(pid)
    return alive


async def until(look: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:  # noqa: ASYNC110 (the kernel's table tells nobody)
        await asyncio.sleep(0.02)
    return found


async def run(sandbox: Sandbox, code: str, tests: str = TESTS) -> ProgramVerdict:
    """The verdict on one; what is right has all the time that a busy machine may need."""
    return await sandbox.run(Submission(code, tests), seconds=30 if code == RIGHT else None)


async def judge(sandbox: Sandbox, codes: dict[str, str], tests: str = TESTS) -> dict[str, ProgramVerdict]:
    """The verdicts on all; nothing that was started for them runs afterwards."""
    before = children(os.getpid())
    verdicts = await asyncio.gather(*(run(sandbox, code, tests) for code in codes.values()))
    assert not running(children(os.getpid()) - before)
    return dict(zip(codes, verdicts, strict=True))


def passed(verdicts: dict[str, ProgramVerdict]) -> set[str]:
    assert all(verdict.passed or verdict.reason for verdict in verdicts.values())
    return {name for name, verdict in verdicts.items() if verdict.passed}


@pytest.mark.parametrize(("kind", "form"), [*(("bwrap", form) for form in FORMS), ("process", "asserts")])
async def test_no_trick_is_an_answer_in_any_form_of_test(kind: Kind, form: str) -> None:
    assert len(LIARS) >= 80
    sandbox = open_sandbox(kind, seconds=SECONDS)
    assert passed(await judge(sandbox, {**LIARS, "right": RIGHT}, FORMS[form])) == {"right"}


async def test_a_test_that_catches_everything_still_sees_no_pass(sandbox: Sandbox) -> None:
    tests = "try:\n    f(20)\nexcept BaseException:\n    pass\n"
    gone = ("exit in a call", "os._exit in a call", "a crash", "all descriptors closed", "forged frames")
    assert passed(await judge(sandbox, {**{name: LIARS[name] for name in gone}, "right": RIGHT}, tests)) == {"right"}


async def test_hogs_are_wrong_and_gone_in_bounded_time(sandbox: Sandbox) -> None:
    hogs = HOGS if sandbox.kind == "bwrap" else {name: HOGS[name] for name in ROUGH}
    started = time.monotonic()
    assert not passed(await judge(sandbox, hogs))
    assert time.monotonic() - started < len(hogs) * (SECONDS + 3)  # a stall would last for good


async def test_hogs_do_not_stall_the_others(sandbox: Sandbox) -> None:
    codes = [HOGS["a fork bomb"], HOGS["a thread bomb"], RIGHT, RIGHT, RIGHT, RIGHT]
    verdicts = await asyncio.gather(*(run(sandbox, code) for code in codes))
    assert [verdict.passed for verdict in verdicts] == [False, False, True, True, True, True]


async def test_no_way_out_of_bubblewrap(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    folders = (tmp_path, Path("/var/tmp"), Path("/tmp"), Path("/dev/shm"), Path("/box"), Path("/"))
    paths = [folder / f"escaped-{os.getpid()}" for folder in folders]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = ESCAPES.format(paths=[str(path) for path in paths], port=listener.getsockname()[1])
        assert not (await open_sandbox("bwrap").run(Submission(code, TESTS))).passed
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not [path for path in paths if path.exists()]


MAKERS = {
    "links": "os.symlink('x' * 4000, f'l{n}')",
    "folders": "os.mkdir(f'd{n}')",
    "empty files": "os.close(os.open(f'e{n}', os.O_CREAT))",
    "names": "os.link('one', f'n{n}')",
    "fifos": "os.mkfifo(f'p{n}')",
    "deleted but open": "os.open('.', os.O_TMPFILE | os.O_RDWR)",
}
MAKING = """
import os
def f(x):
    made = 0
    if x: open('one', 'w').close()
    try:
        for n in range(20000):
            {make}
            made += 1
    except OSError:
        pass
    return made
"""


@pytest.mark.parametrize("what", MAKERS)
async def test_files_of_every_kind_are_counted(what: str) -> None:
    code = MAKING.format(make=MAKERS[what])
    verdict = await open_sandbox("bwrap").run(Submission(code, "made = f(True)\nassert 30 < made < 1024, made"))
    assert verdict.passed, verdict.reason


async def test_no_file_is_made_where_they_cannot_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Ubuntu, whose AppArmor profile takes every capability from what bwrap starts."""
    script = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
at = words.index("CAP_SYS_ADMIN")
os.execv({shutil.which("bwrap")!r}, ["bwrap", *words[: at - 1], *words[at + 1 :]])
"""
    (tmp_path / "bwrap").write_text(script)
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    sandbox = open_sandbox("bwrap")
    codes = {what: MAKING.format(make=make) for what, make in MAKERS.items()}
    assert set(codes) == passed(await judge(sandbox, codes, "assert f(False) == 0"))
    assert (await sandbox.run(Submission(RIGHT, TESTS), seconds=30)).passed


async def test_capabilities_are_gone_before_the_program_runs() -> None:
    code = """
import ctypes
def f(option, value):
    libc = ctypes.CDLL(None, use_errno=True)
    head, data = (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, data) == 0
    options = b"nr_inodes=999999"
    return list(data), libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 38, options), ctypes.get_errno()
"""
    verdict = await open_sandbox("bwrap").run(Submission(code, "assert f(1, 2) == ([0] * 6, -1, 1)"))
    assert verdict.passed, verdict.reason


async def test_the_limits_hold_when_tried() -> None:
    held = await probe(open_sandbox())
    assert len(held) == 5
    assert all(held.values())


def test_doctor_says_what_it_found_by_trying() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tandem", "doctor", "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(told.stdout)["code_sandbox"]
    limits = ("network_cut_off", "outside_not_writable", "forks_contained", "memory_capped", "files_capped")
    assert found == dict.fromkeys(limits, True)


def test_doctor_without_bubblewrap_says_what_to_install(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tandem", "doctor", "--json"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(told.stdout)
    assert found["code_sandbox"].startswith("none: ")
    assert any("apt install bubblewrap" in line for line in found["advice"])


async def test_a_cancelled_run_leaves_nothing_behind(sandbox: Sandbox) -> None:
    before = children(os.getpid())  # of tests that ran in this process
    task = asyncio.create_task(sandbox.run(Submission(HOGS["signals ignored"], TESTS), seconds=60))
    assert await until(lambda: len(children(os.getpid()) - before) >= 2)
    await asyncio.sleep(0.2)
    below = children(os.getpid()) - before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running(below)


async def test_a_run_can_be_cancelled_at_every_moment_of_its_start(sandbox: Sandbox) -> None:
    before = children(os.getpid())
    for turns in range(40):
        task = asyncio.create_task(sandbox.run(Submission("def f(): ...", TESTS)))
        for _ in range(turns):  # of the event loop
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(30):
            await asyncio.wait({task})
        assert task.cancelled()
    assert not running(children(os.getpid()) - before)


async def test_a_start_that_is_cancelled_hands_over_what_it_started() -> None:
    # The grandchild is of a session of its own and holds the pipes; only who ends the process can know of it.
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], start_new_session=True)"
    ended: list[int] = []

    async def end(process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert await until(lambda: len(children(process.pid)) == 1)
        process.stdin.close()
        await process.wait()
        ended.append(process.pid)

    task = asyncio.create_task(start_process(sys.executable, "-c", script, end=end, stdin=asyncio.subprocess.PIPE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait({task})
    assert task.cancelled() and len(ended) == 1 and not running(set(ended))


def parent_of_a_run(kind: Kind) -> subprocess.Popen[bytes]:
    script = textwrap.dedent(f"""
        import asyncio
        from tandem.grading.sandbox import Submission, open_sandbox
        asyncio.run(open_sandbox({kind!r}, seconds=60).run(Submission("import time; time.sleep(99)", "f()")))
    """)
    return subprocess.Popen([sys.executable, "-c", script])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_run_leaves_nothing_behind(kind: Kind) -> None:
    with parent_of_a_run(kind) as parent:
        enough = 6 if kind == "bwrap" else 2
        assert await until(lambda: len(children(parent.pid)) >= enough)
        below = children(parent.pid)
        parent.send_signal(signal.SIGKILL)
    assert await until(lambda: not running(below))


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown sandbox 'docker'"):
        open_sandbox("docker")  # type: ignore[arg-type]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TandemError, match=r"needs bubblewrap: apt install bubblewrap .*--sandbox process"):
        open_sandbox()
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed: Operation not permitted' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(TandemError, match="allow user namespaces") as error:
        open_sandbox()
    assert "\n" not in str(error.value)
