"""The command line as a user meets it: `tandem.cli.main` in this process, in a folder and an environment of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from commands import Cli, Outcome
from stub import Stub

from tandem.cli import main
from tandem.models.openai.api_keys import VARIABLES


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, without the user's keys, settings and cache."""
    monkeypatch.chdir(tmp_path)
    for name in (*VARIABLES, "OPENAI_BASE_URL", "TANDEM_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line with these arguments."""

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def serve() -> Iterator[Callable[[Stub], Stub]]:
    """Run stubs in a thread of their own: the command line has its own event loop."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        yield lambda stub: stack.enter_context(portal.wrap_async_context_manager(stub))


@pytest.fixture
def heard() -> Iterator[None]:
    """Let children hear Ctrl-C: tests that run in the background ignore it, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
