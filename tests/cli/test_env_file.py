"""`.env` in a folder that may be a stranger's: keys and folders, never an endpoint, a strategy or a permission."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import FAKES, SECRET, Cli, dataset
from stub import Stub


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `.env` sets is taken back after each test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [
        ("TANDEM_SOLVE_MENTOR_ENDPOINT", "{url}", ("solve", "--mentor", "stub", "--intern", "fake", "1+1?")),
        ("TANDEM_RUN_ALLOW_CODE_EXECUTION", "1", ("run", *FAKES, "--dataset", "humaneval", "--limit", "1")),
        ("OPENAI_BASE_URL", "{url}", ("solve", *FAKES, "What is 1+1?")),
        ("HTTPS_PROXY", "{url}", ("solve", *FAKES, "What is 1+1?")),
        ("TANDEM_SOLVE_STRATEGY", "no-such", ("solve", *FAKES, "What is 1+1?")),
    ],
)
def test_what_is_no_key_and_no_folder_is_ignored_and_named(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path, name: str, value: str, arguments: tuple[str, ...]
) -> None:
    stub = serve(Stub())
    before = cli(*arguments)
    (tmp_path / ".env").write_text(f"{name}={value.format(url=stub.url)}\nexport OPENAI_API_KEY={SECRET}\n")
    outcome = cli(*arguments)
    first, _, rest = outcome.err.partition("\n")
    assert first.startswith(f"tandem: .env: ignored {name}; it gives keys")
    assert stub.url not in first and SECRET not in outcome.err
    assert (outcome.code, outcome.out == "") == (before.code, before.out == "") and "ignored" not in rest
    assert not stub.seen and name not in os.environ and os.environ["OPENAI_API_KEY"] == SECRET


def test_folders_are_taken_and_what_is_set_wins(cli: Cli, tmp_path: Path) -> None:
    data = tmp_path / "sets"
    data.mkdir()
    dataset(data / "own.jsonl", 3)
    home = os.environ["TANDEM_HOME"]
    (tmp_path / ".env").write_text(f"TANDEM_DATA_DIR={data}\nTANDEM_HOME=/elsewhere\nDEBUG=1\nDATABASE_URL=x\n")
    outcome = cli("datasets", "list")
    assert (outcome.code, outcome.err) == (0, "")  # other programs' settings are not our business
    assert os.environ["TANDEM_DATA_DIR"] == str(data) and os.environ["TANDEM_HOME"] == home
    assert not {"DEBUG", "DATABASE_URL"} & set(os.environ)


def test_a_key_cannot_be_sent_on_under_another_name(
    cli: Cli, serve: Callable[[Stub], Stub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(os.environ, "DEEPSEEK_API_KEY", SECRET)
    stub = serve(Stub())
    (tmp_path / ".env").write_text("TANDEM_MENTOR_API_KEY=${DEEPSEEK_API_KEY}\n")
    cli("solve", "--mentor", "stub", "--mentor-endpoint", stub.url, "--intern", "fake", "1+1?")
    assert stub.seen and all(SECRET not in str(request.headers) for request in stub.seen)


@pytest.mark.parametrize("form", ["large", "pipe", "folder"])
def test_a_file_that_is_none(cli: Cli, tmp_path: Path, form: str) -> None:
    path = tmp_path / ".env"
    if form == "large":
        path.write_bytes(b"A=1\n" * 300_000)
    elif form == "pipe":
        os.mkfifo(path)  # reading it would wait for ever
    else:
        path.mkdir()
    outcome = cli("datasets", "list")
    assert outcome.code == (2 if form == "large" else 0)
    assert outcome.err == (
        "tandem: .env: larger than 1 MB; it gives keys and folders only\n" if form == "large" else ""
    )
