"""How well a collection keeps both models busy, and how much of what the mentor wrote is in the table.

python benchmarks/collect.py --mentor qwen2.5-coder-1.5b --mentor-endpoint http://127.0.0.1:8101/v1 \
    --intern qwen2.5-coder-0.5b --intern-endpoint http://127.0.0.1:8102/v1 --dataset gsm8k --limit 6 --out DIR \
    [--kill-after 30] [any other option of tandem collect]
python benchmarks/collect.py --read DIR          # a folder that was collected before

Busy: the share of the wall time in which a model had at least one request open, from the first call of a part of the
collection to the last one's end (by our own record of calls; a server that serves others too may be busier). The aim is
0.9 for both. With --kill-after the collection is killed (SIGKILL, workers included) after so many seconds and resumed;
the time between does not count. Mentor tokens: written, with what killed calls wrote at most and nobody has, over kept
(the highest insight and the answer of each problem); the aim is 1.02.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tandem.collection.rows import Folder, calls, files
from tandem.collection.texts import CHECKPOINT
from tandem.storage.jsonl import read_lines

_GAP = 20.0  # seconds without any call: another part of the collection


def union(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return spans of time without overlaps."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def length(spans: list[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)


def figures(out: Path, gap: float = _GAP) -> dict[str, Any]:
    """Return busy shares and the mentor's tokens, written over kept."""
    begun: dict[tuple[str, str], dict[str, Any]] = {}
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    written, killed = 0, 0
    for path in files(out, "calls"):
        for row in read_lines(path):
            key = path.name, row["call"]
            if row["event"] == "open":
                begun[key] = row
                continue
            written += row["completion"] if row["role"] == "mentor" else 0
            if row["event"] == "end" and key in begun:
                spans[row["role"]].append((begun.pop(key)["at"], row["at"]))
    killed = sum(row["role"] == "mentor" for row in begun.values())
    parts = union([(start, end + gap) for start, end in union(spans["mentor"] + spans["intern"])])
    wall = length(parts) - gap * len(parts)
    checkpointed = _of_killed(out)
    kept = _kept(out)
    most = written + checkpointed + killed * (CHECKPOINT - 1)
    return {
        "wall_seconds": round(wall, 1),
        "parts": len(parts),
        "busy": {role: round(length(union(spans[role])) / wall, 4) for role in ("mentor", "intern")},
        "calls": sum(row["event"] == "end" for row in calls(out)),
        "killed_mentor_calls": killed,
        "mentor_tokens": {"written_at_most": most, "kept": kept, "ratio_at_most": round(most / kept, 4)},
    }


def _of_killed(out: Path) -> int:
    """Return the tokens that killed calls had written down: those of whole texts that no ended call tells of."""
    whole: dict[tuple[str, str], int] = {}
    partial: dict[tuple[str, str], int] = defaultdict(int)
    for path in files(out, "texts"):
        for row in read_lines(path):
            key = row["problem"], row["source"]
            partial[key] = max(partial[key], row["from"] + sum(tokens for _, tokens in row["pieces"]))
            if "counts" in row:
                whole[key] = row["counts"]["completion_tokens"]
    ended: dict[tuple[str, str], int] = defaultdict(int)
    for row in calls(out):
        if row["event"] == "end" and row["role"] == "mentor":
            ended[row["problem"], row["purpose"]] += row["completion"]
    return sum(max(whole.get(key, tokens) - ended[key], 0) for key, tokens in partial.items())


def _kept(out: Path) -> int:
    kept: dict[str, dict[str, int]] = defaultdict(lambda: {"answer": 0, "insight": 0})
    for row in Folder(out, write=False).rows():
        own = kept[row["problem"]]
        if row["level"] == "answer":
            own["answer"] = row["completion_tokens"]
        own["insight"] = max(own["insight"], row.get("insight_tokens", 0))
    mode = json.loads((out / "collection.json").read_text())["insight_mode"]
    return sum(max(o.values()) if mode == "prefix" else sum(o.values()) for o in kept.values())


def collect(options: list[str], out: Path, kill_after: float | None) -> None:
    command = [sys.executable, "-m", "tandem", "collect", *options, "--out", str(out)]
    if kill_after is not None:
        process = subprocess.Popen(command)
        time.sleep(kill_after)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kill-after", type=float, metavar="S")
    given, options = parser.parse_known_args()
    if given.read is None:
        if given.out is None:
            parser.error("--out or --read")
        collect(options, given.out, given.kill_after)
    print(json.dumps(figures(given.read or given.out), indent=2))


if __name__ == "__main__":
    main()
