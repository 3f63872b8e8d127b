"""`tandem view` opens a page that is current; the shell completes commands, options and names, in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what a browser is asked to show; there is a screen."""
    found: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda url: found.append(url) or True)
    return found


def test_the_page_of_a_run_is_written_shown_and_its_path_printed(cli: Cli, tmp_path: Path, opened: list[str]) -> None:
    assert cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 3), "--out", "a b").code == 0
    outcome = cli("view", "a b")
    page = Path("a b/report.html")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{page}\n", "")
    assert opened == [page.resolve().as_uri()] and "What is 2+0" in page.read_text()
    page.write_text("mine")
    assert cli("view", "a b").code == 0 and page.read_text() == "mine"  # it is current
    os.utime(page, (1, 1))
    assert cli("view", "a b").code == 0 and page.read_text() != "mine"
    assert len(opened) == 3


def test_without_a_screen_or_a_browser_the_path_is_all(
    cli: Cli, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 3), "--out", "out").code == 0
    assert cli("view", "out", "--no-open").out == "out/report.html\n" and not opened
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    assert "open the file yourself" in cli("view", "out").err
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert (cli("view", "out").err, opened) == ("", [])


def test_a_comparison_has_a_page_too_and_an_empty_folder_has_none(cli: Cli, tmp_path: Path) -> None:
    data = dataset(tmp_path / "own.jsonl", 3)
    assert cli("compare", *FAKES, "--dataset", data, "--strategies", "fixed:low", "--out", "compared").code == 0
    Path("compared/report.html").unlink()
    assert cli("view", "compared", "--no-open").out == "compared/report.html\n"
    assert "fixed:low" in Path("compared/report.html").read_text()
    outcome = cli("view", ".")
    assert outcome.code == 2 and "holds no run" in outcome.err


# Completion


def complete(line: str) -> list[str]:
    """Return what bash offers after this line, by the script that `tandem completion bash` prints."""
    program = f"""
tandem() {{ {sys.executable} -m tandem "$@"; }}
eval "$(tandem completion bash)"
words=({line}); [[ "{line}" == *" " ]] && words+=("")
COMP_WORDS=("${{words[@]}}"); COMP_CWORD=$((${{#words[@]}} - 1))
_TANDEM_COMPLETE=bash_complete COMP_WORDS="{line}" COMP_CWORD=$COMP_CWORD tandem
"""
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=120, check=False)
    return [row.partition(",")[2] for row in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_options_and_names() -> None:
    assert complete("tandem vi") == ["view"]
    assert "--mentor-max-tokens" in complete("tandem run --mentor-m")
    assert {"deepseek-7b", "deepseek-32b"} <= set(complete("tandem run --mentor deepseek"))
    assert complete("tandem run --dataset gsm") == ["gsm8k"]
    assert complete("tandem compare --intern fak") == ["fake"]
    assert complete("tandem datasets show math5") == ["math500"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_for_each_shell(cli: Cli, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = cli("completion", shell)
    assert told.code == 0 and f"_TANDEM_COMPLETE={shell}_complete" in told.out and "tandem" in told.out
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert cli("completion").out == told.out


def test_an_unknown_shell_is_refused_with_those_that_are_known(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    outcome = cli("completion")
    assert outcome.code == 2 and "bash, zsh, fish" in outcome.err
