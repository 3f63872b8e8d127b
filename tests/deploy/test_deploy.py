"""Images: their Dockerfiles held against a linter and the tree, and every command line against the ones who read it.

No container is built or run here.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from command_lines import accept, lines
from deployment import DEPLOY, DOCKERFILES, MANIFESTS, TOP, compose, default_of, instructions, last, pods


@pytest.fixture(autouse=True)
def by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the pair as the images are told it where their command names none."""
    monkeypatch.setenv("TANDEM_SERVE_MENTOR", "fake")
    monkeypatch.setenv("TANDEM_SERVE_INTERN", "fake")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_linter_finds_nothing_in_a_dockerfile(path: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_serves_as_nobody_in_particular(path: Path) -> None:
    assert json.loads(last(path, "ENTRYPOINT")) == ["tandem"]
    assert json.loads(last(path, "CMD")) == ["serve"]
    assert last(path, "USER") == "10001:10001"  # by number, so that Kubernetes can see that it is not root
    assert f"EXPOSE {default_of('port')}" in path.read_text()
    command = json.loads(last(path, "HEALTHCHECK").partition(" CMD ")[2])
    assert "/healthz" in command[-1] and f"'{default_of('port')}'" in command[-1]
    ast.parse(command[-1])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_is_built_from_is_there_and_is_sent(path: Path) -> None:
    ignore = (TOP / ".dockerignore").read_text().splitlines()
    sources = {
        source
        for name, rest in instructions(path)
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert {"pyproject.toml", "tandem", "classifiers", "data"} <= sources
    for source in sources:
        assert (TOP / source).exists() and f"!{source}" in ignore
    sent = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore and sent == sources  # nothing else: no keys, no runs


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_extras_are_the_package_s(path: Path) -> None:
    known = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    given = re.search(r"^ARG EXTRAS=(\S+)$", path.read_text(), re.MULTILINE)
    assert given and {"serve"} <= set(given[1].split(",")) <= known.keys()
    args = compose()["services"]["server-cpu"]["build"]["args"]
    assert set(args["EXTRAS"].split(",")) <= known.keys()


def tandem_lines() -> list[list[str]]:
    """Every command line for `tandem` in these files, in comments too."""
    found: list[list[str]] = []
    for path in DOCKERFILES:
        found.append(json.loads(last(path, "CMD")))
        for line in re.findall(r"^# +docker run (?:.*\\\n)*.*", path.read_text(), re.MULTILINE):
            words = shlex.split(line.replace("\\\n#", " "))
            if "--entrypoint" not in words:
                image = next(place for place, word in enumerate(words) if re.match(r"tandem[\w-]*:", word))
                found.append(words[image + 1 :])
    found += [s["command"] for s in compose()["services"].values() if "entrypoint" not in s]
    found += [c["args"] for pod in pods().values() for c in pod["containers"] if "command" not in c]
    for path in (*DOCKERFILES, TOP / "compose.yaml", *(DEPLOY / name for name in MANIFESTS)):
        comments = "\n".join(re.findall(r"^# +(tandem .*)$", path.read_text(), re.MULTILINE))
        found += lines(comments)
    return found


def test_there_are_command_lines() -> None:
    found = tandem_lines()
    assert sum(words[0] == "serve" for words in found) >= 7
    assert ["keys", "add", "deploy/keys.yaml", "--name", "alice"] in found


@pytest.mark.parametrize("words", tandem_lines(), ids=" ".join)
def test_our_command_line_accepts_it(words: list[str]) -> None:
    assert accept(words).startswith("tandem ")


def test_our_command_line_refuses_another() -> None:
    with pytest.raises(click.NoSuchOption):
        accept(["serve", "--mentor", "fake", "--intern", "fake", "--mentour-endpoint", "x"])
    with pytest.raises(click.BadParameter):
        accept(["serve", "--mentor", "fake", "--intern", "fake", "--port", "many"])
    with pytest.raises(click.NoSuchOption):
        accept(["serve", "...", "--nothing"])
    assert accept(["run", "...", "--dataset", "math500"]) == "run"


@pytest.mark.slow
@pytest.mark.vllm
def test_vllm_s_command_line_accepts_it() -> None:
    asked = [s["command"] for s in compose()["services"].values() if "entrypoint" in s]
    asked += [c["args"] for pod in pods().values() for c in pod["containers"] if "command" in c]
    assert len(asked) == 4
    program = (
        "import json, sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "parser = make_arg_parser(FlexibleArgumentParser())\n"
        "for words in json.load(sys.stdin):\n    print(parser.parse_args(words).served_model_name)\n"
    )
    command = [sys.executable, "-c", program]
    given = json.dumps(asked)
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-4:] == ["['qwen2.5-32b']"] + ["['deepseek-7b']"] * 3
