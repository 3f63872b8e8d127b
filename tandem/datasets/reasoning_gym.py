"""Problems made by the package reasoning-gym: reasoning-gym:<task>, verifiable, as many as wanted.

They are made in a process of their own with a fixed hash seed, because several tasks draw from sets: so the same
task, seed and size give the same problems everywhere (with the same version of the package).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from tandem.datasets.cards import GENERATED, DatasetCard
from tandem.errors import MissingPackageError, TandemError, UsageError, nearest
from tandem.types import Message, Problem

SIZE = 100
_PATIENCE = 600.0  # seconds
_EXAMPLES = "gsm_symbolic, chain_sum, simple_equations, spell_backward, knights_knaves"


def generate(card: DatasetCard, task: str, *, size: int | None, seed: int | None) -> Iterator[Problem]:
    """Yield `size` problems (default 100) of a task, drawn with `seed` (default 0).

    Each carries the row that its scorer needs in its metadata, as `entry`: a Python literal. Raises UsageError
    without a task or for an unknown one, MissingPackageError without the package.
    """
    if not task:
        raise UsageError(f"{GENERATED} needs a task, as in {GENERATED}:gsm_symbolic. Some tasks: {_EXAMPLES}.")
    if find_spec("reasoning_gym") is None:
        raise MissingPackageError(f"'{GENERATED}:{task}'", GENERATED)
    seed = 0 if seed is None else seed
    for number, row in enumerate(_rows(task, size or SIZE, _spread(seed))):
        yield Problem(
            id=f"{task}-{seed}-{number:05d}",
            messages=(Message(role="user", content=card.template.replace("{problem}", row["question"])),),
            task=card.task,
            reference=row["answer"],
            grader=card.grader,
            metadata={"subject": task, "entry": row["entry"]},
        )


def _spread(seed: int) -> int:
    """Return the package's own seed: it makes problem i from seed + i, so neighbouring seeds would share problems."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4]) >> 2


def _rows(task: str, size: int, seed: int) -> Iterator[dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_TOKEN"))}
    environment = kept | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-P", "-m", "tandem.datasets.reasoning_gym_generator", task, str(size), str(seed)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise TandemError(f"{GENERATED}:{task}: making {size} problems took more than {_PATIENCE:g} s") from None
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise TandemError(f"{GENERATED}:{task}: the package could not make the problems ({reason[:200]})")
    for line in done.stdout.splitlines():
        row = json.loads(line)
        if "tasks" in row:
            raise nearest(f"{GENERATED} task", task, row["tasks"])
        yield row
