"""What a long run costs beside its calls: memory as records pile up, and how soon a resumed run is at work again.

python benchmarks/runstore.py [--problems 10000] [--record-bytes 6000] [--rounds 3] [--strategy tandem] [--json]

Everything is `tandem run` in a process of its own on fake models (pair and strategy as a user would give them):

- `memory`: resident memory when the run has written 2 % of its records, and its highest, in MB (aim: less than 200 MB
  between them for 10,000 records). The fake models keep every request that they saw; that is in the figure.
- `resume`: seconds from the start of the process until the first new record of a run of which all but ten problems are
  done, with each record as long as `--record-bytes`, and the same of a run of twenty problems, which is what starting
  costs anyway (aim: less than 2 s; the ratio says what the size costs). The journal keeps the calls of all problems.
  With `--strategy tandem` scikit-learn and skops are imported for the classifier; `--strategy fixed:low` is without.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tandem.runs.store import RECORDS, SUMMARY
from tandem.storage.jsonl import JsonlWriter, encode, read_lines

MISSING = 10  # problems that a resumed run has to do
SMALL = 20


def dataset(path: Path, n: int) -> Path:
    rows = [{"id": f"q{i}", "problem": f"What is {i}+0, that is {i}?", "answer": str(i)} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Tandem:
    """`tandem run` on fakes with one strategy."""

    def __init__(self, strategy: str) -> None:
        self._pair = ["--mentor", "fake", "--intern", "fake", "--strategy", strategy]

    def __call__(self, data: Path, *more: str) -> list[str]:
        return [sys.executable, "-m", "tandem", "run", *self._pair, "--dataset", str(data), *more, "--json"]


def watch(arguments: list[str], look: Callable[[int], None], pause: float) -> None:
    """Run a command and call `look` with its process id again and again until it ends."""
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=err)
        try:
            while process.poll() is None:
                look(process.pid)
                time.sleep(pause)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            err.seek(0)
            raise SystemExit(f"{' '.join(arguments)}\n{err.read().decode(errors='replace')[-2000:]}")


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def resident(pid: int) -> float:
    """Return a process's resident memory in MB; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def memory(command: Tandem, data: Path, out: Path, n: int) -> dict[str, float]:
    """Do the run; return its memory at 2 % of the records and at its highest, in MB, and its seconds."""
    early = highest = 0.0
    started = time.perf_counter()

    def look(pid: int) -> None:
        nonlocal early, highest
        now = resident(pid)
        highest = max(highest, now)
        if not early and lines(out / RECORDS) >= n // 50:
            early = now

    watch(command(data, "--out", str(out)), look, 0.05)
    return {"early": early, "highest": highest, "grown": highest - early, "seconds": time.perf_counter() - started}


def stopped(source: Path, folder: Path, record_bytes: int) -> None:
    """Make a copy of a run as it would be had it been killed ten problems before its end."""
    shutil.copytree(source, folder)
    (folder / SUMMARY).unlink()
    (folder / RECORDS).unlink()
    records = list(read_lines(source / RECORDS))[:-MISSING]
    with JsonlWriter(folder / RECORDS) as writer:
        for record in records:
            record["text"] += " x" * ((record_bytes - len(encode(record))) // 2)
            writer.write(record)


def resume(command: Tandem, data: Path, source: Path, folder: Path, record_bytes: int) -> float:
    """Return the seconds until the resumed run has written its first new record."""
    stopped(source, folder, record_bytes)
    before, found = size(folder / RECORDS), 0.0
    started = time.perf_counter()

    def look(_: int) -> None:
        nonlocal found
        if not found and size(folder / RECORDS) > before:
            found = time.perf_counter() - started

    watch(command(data, "--resume", str(folder)), look, 0.002)
    missing = lines(source / RECORDS) - lines(folder / RECORDS)
    if missing or not found:
        raise SystemExit(f"the resumed run in {folder} lacks {missing} records")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=10_000)
    parser.add_argument("--record-bytes", type=int, default=6_000, help="length that the records are brought to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategy", default="tandem")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    given = parser.parse_args()
    command = Tandem(given.strategy)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, few = dataset(folder / "data.jsonl", given.problems), dataset(folder / "few.jsonl", SMALL)
        report: dict[str, Any] = {
            "problems": given.problems,
            "memory": memory(command, data, folder / "run", given.problems),
        }
        report["mb"] = {path.name: size(path) / 1e6 for path in sorted((folder / "run").iterdir())}
        memory(command, few, folder / "small", SMALL)
        times = [
            (
                resume(command, data, folder / "run", folder / f"resumed{i}", given.record_bytes),
                resume(command, few, folder / "small", folder / f"small{i}", given.record_bytes),
            )
            for i in range(given.rounds)
        ]
        report["resume"] = {"seconds": [a for a, _ in times], "small": [b for _, b in times]}
    if given.json:
        print(json.dumps(report, indent=2))
        return
    found, rate = report["memory"], given.problems / report["memory"]["seconds"]
    print(f"{given.problems} problems in {found['seconds']:.0f} s ({rate:.0f} a second)")
    print(", ".join(f"{file} {mb:.1f} MB" for file, mb in report["mb"].items()))
    print(
        f"memory: {found['early']:.0f} MB at 2 %, {found['highest']:.0f} MB at its highest: grown by "
        f"{found['grown']:.0f} MB, {found['grown'] / 200:.2f} of the aim"
    )
    large, small = (statistics.median(report["resume"][name]) for name in ("seconds", "small"))
    print(
        f"resume: {large:.2f} s to the first new record, {large / 2:.2f} of the aim; {small:.2f} s for {SMALL} "
        f"problems, ratio {large / small:.2f}"
    )


if __name__ == "__main__":
    main()
