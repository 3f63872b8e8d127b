"""Commands that may be called without a pair: the demo pair where it is here, else one line that says how to get it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import Cli

from tandem.cli.default_pair import DEMO_PAIR
from tandem.models.catalog import find
from tandem.models.weights import MANIFEST, folder_of

ASK = ("solve", "What is 17*23?")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def pretend(name: str) -> None:
    folder, entry = folder_of(find(name)), find(name)
    folder.mkdir(parents=True)
    assert entry.gguf is not None
    (folder / MANIFEST).write_text(f'{{"name": "{name}", "sha256": "{entry.gguf.sha256}"}}')


@pytest.mark.usefixtures("bare")
def test_without_weights_one_line_says_how_to_fetch_them(cli: Cli) -> None:
    refused = cli(*ASK)
    assert refused.code == 1 and not refused.out and len(refused.err.splitlines()) == 1
    assert "tandem models pull qwen2.5-coder-1.5b qwen2.5-coder-0.5b (1.6 GB to fetch)" in refused.err
    pretend(DEMO_PAIR["mentor"])
    refused = cli(*ASK)
    assert "tandem models pull qwen2.5-coder-0.5b (0.5 GB to fetch)" in refused.err


@pytest.mark.usefixtures("bare")
def test_missing_packages_are_named_before_the_weights(tmp_path: Path) -> None:
    program = f"""
import sys
import importlib.util
whole = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else whole(name, *more)
from tandem.cli import main
main({list(ASK)!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.index("pip install 'tandem-reasoning[local]'") < done.stderr.index("tandem models pull")


@pytest.mark.parametrize("options", [("--mentor", "fake"), ("--intern", "fake"), ("--intern-endpoint", "http://x/v1")])
@pytest.mark.usefixtures("bare")
def test_half_a_pair_is_refused(cli: Cli, options: tuple[str, ...]) -> None:
    refused = cli(*ASK, *options)
    assert refused.code == 2 and "is missing: name both models, or neither" in refused.err


def test_the_pair_may_come_from_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "pair.yaml"
    path.write_text("mentor: fake\nintern: fake\n")
    done = cli(*ASK, "--config", str(path))
    assert done.code == 0 and "answer: 23" in done.out


@pytest.mark.usefixtures("bare")
def test_the_pair_of_the_config_file_comes_first(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "config" / "tandem" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("mentor: fake\nintern: fake\n")
    done = cli(*ASK)
    assert done.code == 0 and "synthetic: a fake model wrote this" in done.out
    file.write_text("mentor: fake\n")
    refused = cli(*ASK)
    assert refused.code == 2 and f"the config file {file} names one model of the pair" in refused.err
    assert cli(*ASK, "--mentor", "fake", "--intern", "fake").code == 0
