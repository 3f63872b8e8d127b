"""How long a command line waits for its help: seconds on the clock, and over a bare start of the interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "bare python": ["-c", "pass"],
    "tandem --help": ["-m", "tandem", "--help"],
    "tandem run --help": ["-m", "tandem", "run", "--help"],
}
ROUNDS = 15


def seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):  # in turn, so that a noisy machine is noisy for all
        for name, words in COMMANDS.items():
            times[name].append(seconds(words))
    bare = median(times["bare python"])
    for name, found in times.items():
        print(f"{name:<20} {median(found):.3f} s ({min(found):.3f} to {max(found):.3f}), {median(found) / bare:.1f}")
