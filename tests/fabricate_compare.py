"""Comparisons made up on the spot: folders as `tandem compare` leaves them, of any size, without asking a model."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tandem.costs import UNITS
from tandem.ledger import Ledger
from tandem.runs.outcomes import AXES, MEASURES
from tandem.statistics.significance import mcnemar, paired_bootstrap, wilson
from tandem.storage.jsonl import encode

# name: share right, mentor tokens a problem, intern tokens a problem, level
STRATEGIES: dict[str, tuple[float, int, int, str]] = {
    "tandem": (0.62, 150, 190, "low"),
    "mentor-only": (0.66, 420, 0, "answer"),
    "intern-only": (0.34, 0, 180, "none"),
    "random-mix": (0.49, 210, 90, "none"),
    "cascade": (0.58, 260, 200, "none"),
    "budget-forcing": (0.47, 200, 0, "answer"),
    "shepherding": (0.57, 130, 170, "low"),
    "delegate": (0.55, 520, 300, "answer"),
    "spec-reason": (0.60, 310, 240, "medium"),
}
LADDER = ("none", "low", "medium", "high")
_WORDS = re.findall(
    r"\w+",
    "number remainder even odd triangle train minutes apples each twice sum digits total first then half price share "
    "divide multiply subtract circle area hours left together because therefore so we know that gives",
)


def write_compare(
    folder: Path,
    *,
    problems: int = 60,
    strategies: Sequence[str] = tuple(STRATEGIES),
    seed: int = 0,
    words: int = 160,
    prices: bool = False,
    questions: bool = True,
    texts: Mapping[str, str] | None = None,
    skipped: Mapping[str, str] | None = None,
    **more: Any,
) -> Path:
    """Write a comparison; `texts` replaces fields of the first problem's records, `more` fields of compare.json."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"made-{i:05d}" for i in range(problems)]
    hard = [chance.random() for _ in ids]
    asked = [f"Problem {i}. {_prose(chance, 35).capitalize()}: how many are there?" for i in range(problems)]
    if texts and problems:
        ids[0] = texts.get("problem", ids[0])
        asked[0] = texts.get("question", asked[0])
    if questions:
        rows = (encode({"problem": i, "question": q}) for i, q in zip(ids, asked, strict=True))
        (folder / "problems.jsonl").write_bytes(b"".join(rows))
    runs = {}
    for name in strategies:
        runs[name] = [_record(name, chance, i, h, words, prices) for i, h in zip(ids, hard, strict=True)]
        if texts and problems:
            for field in ("answer", "text", "reference", "error", "insight"):
                runs[name][0][field] = texts.get(field, runs[name][0][field])
            if "section" in texts and runs[name][0]["sections"]:
                runs[name][0]["sections"] = {"goal": texts["section"], "action": texts["section"]}
        write_run(folder / name.replace(":", "-"), name, runs[name])
    found = _compared(runs, problems, prices) | more
    found["strategies"] += [{"name": n, "status": "skipped", "reason": why} for n, why in (skipped or {}).items()]
    (folder / "compare.json").write_text(json.dumps(found))
    return folder


def write_run(folder: Path, strategy: str, records: Sequence[Mapping[str, Any]]) -> Path:
    """Write a finished run's folder; no summary, for it is made of the records."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"name": "made-up", "problems": len(records)}
    run = {"strategy": strategy, "mentor": {"name": "big"}, "intern": {"name": "small"}, "dataset": data}
    manifest = {"run": run, "version": "1", "started": "2026-11-25T10:00:00+00:00", "synthetic": False}
    (folder / "run.json").write_text(json.dumps(manifest))
    (folder / "records.jsonl").write_bytes(b"".join(encode(dict(record)) for record in records))
    return folder


def records_of(strategy: str, n: int, *, seed: int = 0, words: int = 160) -> list[dict[str, Any]]:
    """Return `n` records of one strategy."""
    chance = random.Random(seed)
    return [_record(strategy, chance, f"made-{i:05d}", chance.random(), words, False) for i in range(n)]


def _record(name: str, chance: random.Random, problem: str, hard: float, words: int, prices: bool) -> dict[str, Any]:
    share, mentor, intern, level = STRATEGIES.get(name, STRATEGIES["tandem"])
    right = chance.random() < min(0.97, max(0.03, share + 0.9 * (0.5 - hard)))
    wanted = str(sum(map(ord, problem)) % 90)
    answer = wanted if right else str(chance.randrange(90, 180))
    trace = _trace(chance, right) if name in ("tandem", "shepherding", "cascade") else []
    level = trace[-1]["level"] if trace else level
    sections = {s: _prose(chance, 18) for s in ("goal", "planning", "retrieval", "action")} if trace else {}
    if level == "none":
        sections = {}
    if name == "random-mix":
        level = chance.choice(("none", "answer"))
    mentor = int(mentor * chance.uniform(0.5, 1.5)) if level != "none" or name != "tandem" else 0
    entries = [_entry("mentor", "answer" if not intern else "insight", mentor, 1.5, prices)] if mentor else []
    if intern:
        entries += [_entry("intern", "probe", 24, 0.5, prices)] * max(0, len(trace) - 1)
        entries.append(_entry("intern", "answer", int(intern * chance.uniform(0.5, 1.5)), 0.5, prices))
    text = f"{_prose(chance, words).capitalize()}.\n\nThe answer is \\boxed{{{answer}}}"
    return {
        "problem": problem,
        "task": "math",
        "grader": "math",
        "correct": right,
        "reference": wanted,
        "error": None,
        "strategy": name,
        "answer": answer,
        "text": text,
        "level": level,
        "answered_by": "mentor" if level == "answer" else "intern",
        "insight": "\n".join(f"{k.capitalize()}: {v}" for k, v in sections.items()),
        "sections": sections,
        "trace": trace,
        "ledger": {"entries": entries},
        "truncated": chance.random() < 0.03,
        "seconds": sum(e["seconds"] for e in entries),
        "synthetic": False,
        "classifier": None,
        "metadata": {},
    }


def _trace(chance: random.Random, right: bool) -> list[dict[str, Any]]:
    stop = chance.choice((0, 0, 1, 1, 1, 2, 3))
    trace: list[dict[str, Any]] = []
    for rung, level in enumerate(LADDER[: stop + 1]):
        last = rung == stop
        said = chance.betavariate(5, 3 if right else 5) if last else chance.betavariate(2, 4) / 2
        trace.append(
            {
                "level": level,
                "action": "stop" if last else "go_on",
                "sufficiency": said,
                "threshold": 0.5,
                "calibrated": True,
                "reason": "sufficient" if said >= 0.5 else "no later level" if last else "",
                "insight_tokens": (0, 100, 250, 500)[rung],
                "signals": {"entropy_mean": chance.random(), "least_likely": -chance.random()},
            }
        )
    return trace


def _entry(role: str, purpose: str, tokens: int, billions: float, prices: bool) -> dict[str, Any]:
    usd = (tokens * 4e-6 + 2e-4) * billions if prices else None
    return {
        "role": role,
        "purpose": purpose,
        "model": "big" if role == "mentor" else "small",
        "usage": {"prompt": 120, "cached": 0, "completion": tokens, "reasoning": 0, "source": "reported"},
        "seconds": tokens * billions / 60,
        "device_seconds": tokens * billions / 900,
        "usd": usd,
        "usd_bound": usd,
        "tflops": 2 * billions * (120 + tokens) / 1e3,
        "local": not prices,
        "billions": billions,
        "read_tokens": 100 if role == "intern" else 0,
        "assumed": False,
        "error": None,
        "call": None,
        "paid": True,
    }


def costs_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what one record cost, by the ledger's own sums."""
    ledger = Ledger.model_validate(record["ledger"])
    found = {unit: ledger.cost(unit) for unit in UNITS}
    return found | {"intern_tokens": ledger.intern_tokens, "latency": record["seconds"]}


def _compared(runs: Mapping[str, list[dict[str, Any]]], n: int, prices: bool) -> dict[str, Any]:
    costs = {name: [costs_of(record) for record in records] for name, records in runs.items()}
    means = {name: {measure: _mean([c[measure] for c in rows]) for measure in MEASURES} for name, rows in costs.items()}
    rights = {name: [bool(record["correct"]) for record in records] for name, records in runs.items()}
    shares = {name: sum(right) / n if n else None for name, right in rights.items()}
    strategies = []
    for name, records in runs.items():
        gains = {axis: _gain(name, shares, means, axis) for axis in AXES}
        strategies.append(
            {
                "name": name,
                "folder": name.replace(":", "-"),
                "status": "finished",
                "reason": None,
                "n": n,
                "accuracy": shares[name],
                "accuracy_ci95": wilson(sum(rights[name]), n),
                "cost": means[name],
                "gain_over_chord": gains,
                "ace": {unit: _spread(g["value"], 9.0) for unit, g in gains.items()},
                "against_mentor": _against(rights[name], rights.get("mentor-only"), n),
                "headroom_share": {unit: _spread(g["value"], 3.0) for unit, g in gains.items()},
                "levels": dict(Counter(record["level"] for record in records)),
                "truncated": {
                    role: sum(r["truncated"] and r["answered_by"] == role for r in records)
                    for role in ("mentor", "intern")
                },
                "errors": 0,
                "notes": ["uncalibrated: fitted to another pair"] if name == "tandem" else [],
                "offline": None,
            }
        )
    cheapest = (
        [min(costs, key=lambda m: (not rights[m][i], costs[m][i]["tflops"] or 0)) for i in range(n)] if runs else []
    )
    return {
        "format": 2,
        "version": "0.1.0",
        "started": "2026-11-25T10:00:00+00:00",
        "pair": {"mentor": "qwen2.5-coder-1.5b", "intern": "qwen2.5-coder-0.5b"},
        "dataset": {"name": "made-up", "split": "test", "problems": n},
        "synthetic": False,
        "n": n,
        "graded": n,
        "unit": "usd" if prices else "tflops",
        "units": list(AXES),
        "notes": [],
        "verdict": {"sentence": "On these made-up problems nothing is shown."} if "tandem" in runs else None,
        "strategies": strategies,
        "oracle": {
            "accuracy": sum(rights[m][i] for i, m in enumerate(cheapest)) / n if cheapest else None,
            "cost": {axis: _mean([costs[m][i][axis] for i, m in enumerate(cheapest)]) for axis in AXES},
        },
        "shared": {"charged_tokens": 100_000, "generated_tokens": 45_000, "share": 0.45},
        "reliability": {name: _bins(records) for name, records in runs.items() if any(r["trace"] for r in records)},
    }


def _gain(name: str, shares: Mapping[str, Any], means: Mapping[str, Any], unit: str) -> dict[str, float | None]:
    ends = [(means[m][unit], shares[m]) for m in ("intern-only", "mentor-only") if m in means]
    at = means[name][unit]
    if len(ends) < 2 or at is None or None in ends[0] or None in ends[1] or ends[1][0] <= ends[0][0]:
        return {"value": None, "low": None, "high": None}
    (c0, a0), (c1, a1) = ends
    mixed = a0 + (a1 - a0) * min(1.0, max(0.0, (at - c0) / (c1 - c0)))
    return _spread(shares[name] - mixed, 1.0, 0.07)


def _spread(value: float | None, times: float, around: float = 0.5) -> dict[str, float | None]:
    if value is None:
        return {"value": None, "low": None, "high": None}
    return {"value": value * times, "low": value * times - around, "high": value * times + around}


def _against(ours: list[bool], theirs: list[bool] | None, n: int) -> dict[str, Any] | None:
    if theirs is None or not n:
        return None
    won = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    low, high = paired_bootstrap(won, lost, n) or (0.0, 0.0)
    return {
        "value": (won - lost) / n,
        "low": low,
        "high": high,
        "won": won,
        "lost": lost,
        "mcnemar_p": mcnemar(won, lost),
    }


def _bins(records: list[dict[str, Any]]) -> list[dict[str, float]]:
    pairs = [(r["trace"][-1]["sufficiency"], bool(r["correct"])) for r in records if r["trace"]]
    found = []
    for i in range(10):
        inside = [(p, y) for p, y in pairs if math.floor(min(p, 0.999) * 10) == i]
        if inside:
            said, right = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            found.append({"low": i / 10, "high": (i + 1) / 10, "n": len(inside), "predicted": said, "observed": right})
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _prose(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))
