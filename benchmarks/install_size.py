"""What an extra adds to the core on disk: the files of the packages installed here that it asks for, in MB."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
INSTALLED = {canonicalize_name(one.metadata["Name"]): one for one in distributions()}


def closure(requirements: Iterable[str], found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Add the packages (with the extras asked of them) that requirements lead to, and return them."""
    for text in requirements:
        asked = Requirement(text)
        name = str(canonicalize_name(asked.name))
        for extra in {"", *asked.extras}:
            if (name, extra) not in found and (asked.marker is None or asked.marker.evaluate({"extra": ""})):
                found.add((name, extra))
                of = (INSTALLED[name].requires or []) if name in INSTALLED else []
                closure((str(one) for one in map(Requirement, of) if _asked(one, extra)), found)
    return found


def _asked(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return False
    requirement.marker = None
    return True


def megabytes(package: Distribution) -> float:
    paths = (Path(str(file.locate())) for file in package.files or [])
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


if __name__ == "__main__":
    core = {name for name, _ in closure(PROJECT["dependencies"], set())}
    extras = {"(none)": core}
    for extra, wanted in PROJECT["optional-dependencies"].items():
        if extra != "dev":
            extras[extra] = {name for name, _ in closure(wanted, set())} - core
    for extra, names in extras.items():
        size = sum(megabytes(INSTALLED[name]) for name in names & INSTALLED.keys())
        absent = sorted(names - INSTALLED.keys())
        print(f"{extra:<16}{size:7.0f} MB" + (f"   without {', '.join(absent)}, not installed here" if absent else ""))
