"""The files under deploy/ and compose.yaml as the tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from tandem.cli import cli

TOP = Path(__file__).resolve().parents[1]
DEPLOY = TOP / "deploy"
DOCKERFILES = (DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.cuda")
MANIFESTS = ("kubernetes.yaml", "secrets.example.yaml")


def compose() -> dict[str, Any]:
    """Return compose.yaml with its anchors put in place."""
    return yaml.safe_load((TOP / "compose.yaml").read_text())  # type: ignore[no-any-return]


def manifests(*names: str) -> list[dict[str, Any]]:
    """Return the manifests in these files."""
    return [document for name in names for document in yaml.safe_load_all((DEPLOY / name).read_text())]


def one(kind: str, name: str) -> dict[str, Any]:
    """Return a manifest."""
    (found,) = [m for m in manifests(*MANIFESTS) if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def workloads() -> list[dict[str, Any]]:
    """Return what runs pods."""
    return [m for m in manifests("kubernetes.yaml") if "template" in m.get("spec", {})]


def pods() -> dict[str, dict[str, Any]]:
    """Return the specification of every pod by its workload's name."""
    return {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in workloads()}


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield a Dockerfile's instructions with what follows them."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, " ".join(rest.split())


def last(path: Path, name: str) -> str:
    """Return what follows the last instruction of this name, which is the one that counts."""
    return [rest for found, rest in instructions(path) if found == name][-1]


def options_in(words: list[str]) -> dict[str, str]:
    """Return the options of a command that are written --name=value."""
    return {name: value for name, _, value in (w.removeprefix("--").partition("=") for w in words if w[:2] == "--")}


def default_of(option: str) -> Any:
    """Return what `tandem serve` takes for an option."""
    serve = cli.get_command(click.Context(cli), "serve")
    assert serve
    return next(param.default for param in serve.params if param.name == option)
