"""What a comparison says: every strategy against both anchors, on the problems that all of them ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tandem.runs.outcomes import UNITS, RunOutcomes
from tandem.statistics.chord import chords
from tandem.statistics.intervals import Bootstrap, interval
from tandem.statistics.significance import mcnemar, wilson

CHEAP, DEAR = "intern-only", "mentor-only"
UPPER_BOUND = ("shepherding:oracle",)  # looks at the reference: no method, and no part of the oracle's choice
Estimate = dict[str, float | None]
_TINY = 1e-9


def strategy_figures(runs: Mapping[str, RunOutcomes], best: RunOutcomes, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return accuracy and cost of each run over its own problems, and what compares over those that both anchors ended.

    `best` is the oracle. Intervals are 95 %: Wilson's for an accuracy, a paired bootstrap over problems for the rest.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        n, right = len(run.ids), int(run.correct.sum())
        found[name] = {
            "n": n,
            "accuracy": right / n if n else None,
            "accuracy_ci95": list(wilson(right, n) or ()) or None,
            "cost": {unit: run.mean(unit) for unit in (*UNITS, "intern_tokens")},
            "levels": run.levels,
            "truncated": run.truncated,
            "errors": run.errors,
            "upper_bound": name in UPPER_BOUND,
            "notes": [*run.notes, *([_BOUND] if name in UPPER_BOUND else [])],
        }
        if CHEAP in runs and DEAR in runs:
            common = shared_ids([run, runs[CHEAP], runs[DEAR], best])
            if common:
                boot = Bootstrap(len(common), seed=seed)
                found[name] |= _against(boot, *(one.of(common) for one in (run, runs[CHEAP], runs[DEAR], best)))
    return found


def shared_ids(runs: Sequence[RunOutcomes]) -> list[str]:
    """Return the problems that all of these ended, in the order of the first."""
    first, *others = runs
    theirs = [set(run.ids) for run in others]
    return [one for one in first.ids if all(one in ids for ids in theirs)]


def _against(
    boot: Bootstrap, ours: RunOutcomes, cheap: RunOutcomes, dear: RunOutcomes, best: RunOutcomes
) -> dict[str, Any]:
    right, theirs = ours.correct, dear.correct
    won, lost = int((right > theirs).sum()), int((right < theirs).sum())
    gains: dict[str, Estimate] = {}
    aces: dict[str, Estimate] = {}
    shares: dict[str, Estimate] = {}
    for unit in UNITS:
        if any(run.cost[unit] is None for run in (ours, cheap, dear)):
            gains[unit] = aces[unit] = shares[unit] = {"value": None, "low": None, "high": None}
            continue
        ends = [(boot.mean(run.costs(unit)), boot.mean(run.correct)) for run in (cheap, dear)]
        cost, accuracy = boot.mean(ours.costs(unit)), boot.mean(right)
        gain = accuracy - chords(cost, *ends)
        gains[unit], aces[unit] = interval(gain), interval(_ace(cost, accuracy, *ends))
        oracle = boot.mean(best.correct) - chords(boot.mean(best.costs(unit)), *ends)
        shares[unit] = interval(_quotient(gain, oracle))
    return {
        "gain_over_chord": gains,
        "ace": aces,
        "headroom_share": shares,
        "against_mentor": interval(boot.mean(right) - boot.mean(theirs))
        | {"won": won, "lost": lost, "mcnemar_p": mcnemar(won, lost)},
    }


def _ace(
    cost: np.ndarray, accuracy: np.ndarray, cheap: tuple[np.ndarray, np.ndarray], dear: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return the slope from the cheap end relative to the chord's (arXiv 2601.22132); 1 is a random mix."""
    (c0, a0), (c1, a1) = cheap, dear
    return _quotient((accuracy - a0) * (c1 - c0), (cost - c0) * (a1 - a0))


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    exists = np.abs(below) > _TINY
    found: np.ndarray = np.where(exists, above / np.where(exists, below, 1.0), np.nan)
    return found


def oracle(runs: Mapping[str, RunOutcomes]) -> RunOutcomes:
    """Return, for each problem, the cheapest strategy that is right, else the cheapest (TFLOPs, or mentor tokens).

    Of strategies that ended as many problems as any: one that was stopped early would take problems from all of them.
    """
    most = max(len(run.ids) for run in runs.values())
    whole = [run for name, run in runs.items() if name not in UPPER_BOUND and len(run.ids) == most]
    common = shared_ids(whole)
    methods = [run.of(common) for run in whole]
    unit = "tflops" if all(run.cost["tflops"] is not None for run in methods) else "mentor_tokens"
    price = np.vstack([run.costs(unit) for run in methods])
    correct = np.vstack([run.correct for run in methods])
    choice = np.argmin(price + np.where(correct > 0, 0.0, price.sum() + 1.0), axis=0)
    each = np.arange(len(common))
    cost = {
        u: None
        if any(run.cost[u] is None for run in methods)
        else np.vstack([run.costs(u) for run in methods])[choice, each]
        for u in (*UNITS, "intern_tokens")
    }
    return RunOutcomes(list(common), correct[choice, each], cost)


def shared_tokens(runs: Mapping[str, RunOutcomes]) -> dict[str, float | None]:
    """Return the tokens that all strategies were charged for and those that were written for it."""
    charged = sum(run.charged_tokens for run in runs.values())
    written = sum(run.written_tokens for run in runs.values())
    return {
        "charged_tokens": charged,
        "generated_tokens": written,
        "share": round(written / charged, 4) if charged else None,
    }


def reliability(runs: Mapping[str, RunOutcomes]) -> dict[str, list[dict[str, float]]]:
    """Return, for strategies that predict how likely the intern is right, what came true of it, in five bins.

    Only predictions whose outcome some run of the comparison shows: the intern alone, under a fixed level, or the
    answer that was given.
    """
    found = {}
    for name, run in runs.items():
        pairs = [(p, truth) for p, truth in run.predictions(runs)]
        if not pairs:
            continue
        p, truth = (np.asarray(column, dtype=float) for column in zip(*pairs, strict=True))
        bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
        found[name] = [
            {
                "low": k / _BINS,
                "high": (k + 1) / _BINS,
                "n": int((bins == k).sum()),
                "predicted": round(float(p[bins == k].mean()), 4),
                "observed": round(float(truth[bins == k].mean()), 4),
            }
            for k in range(_BINS)
            if (bins == k).any()
        ]
    return found


_BINS = 5
_BOUND = "looks at the reference: an upper bound, no method"
