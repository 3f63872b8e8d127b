"""Does `regret:X` keep its word, and does it buy anything? Coverage and power of Learn-then-Test, simulated.

A world gives each problem a difficulty; intern and mentor disagree on a stated share of the problems; a classifier sees
the intern's chance under noise. Half of the problems order the operating points (thresholds, the most expensive first),
the other half certifies. Coverage: how often the certified point's true loss is at most X. Power: how often something
cheaper than mentor-only is certified.

    python benchmarks/certify.py            # 400 tables of each kind, about a minute
    python benchmarks/certify.py --tables 50
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import numpy as np

from tandem.training.certify import fixed_sequence

THRESHOLDS = np.linspace(0.98, 0.02, 25)  # the most expensive first: with the highest the intern answers least often
TRUTH = 200_000  # problems on which a point's true loss is found


@dataclass(frozen=True)
class World:
    """Shares of problems where only the mentor is right, and only the intern; how well the score tells them apart."""

    only_mentor: float
    only_intern: float
    skill: float  # distance of the scores' means in standard deviations

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what the intern's answer would lose (count,) and the sufficiency scores (count,)."""
        agree = 1 - self.only_mentor - self.only_intern
        loss = rng.choice([1, 0, -1], p=[self.only_mentor, agree, self.only_intern], size=count)
        score = rng.normal(size=count) - self.skill * (loss == 1)
        return loss, 1 / (1 + np.exp(-score - 0.5 * self.skill))


def losses_at(loss: np.ndarray, score: np.ndarray) -> list[np.ndarray]:
    """Return the losses at each threshold: the intern answers where the score reaches it, else the mentor does."""
    return [np.where(score >= threshold, loss, 0) for threshold in THRESHOLDS]


def one_table(world: World, rng: np.random.Generator, count: int, limit: float, truth: np.ndarray) -> tuple[bool, bool]:
    """Return whether the certified point keeps the bound, and whether one cheaper than mentor-only was certified."""
    order = losses_at(*world.draw(rng, count // 2))
    # As selection.sequence does: points that lose too much on the half that orders are not even tested.
    kept = [k for k, sample in enumerate(order) if sample.any() and sample.mean() < limit] or [0]
    step = max(len(kept) // 20, 1)
    tried = kept[::step]
    samples = losses_at(*world.draw(rng, count - count // 2))
    passed = fixed_sequence([samples[k] for k in tried], limit).passed
    return (passed == 0 or bool(truth[tried[passed - 1]] <= limit)), passed > 0


def simulate(world: World, *, count: int, limit: float, tables: int, seed: int = 0) -> dict[str, float]:
    """Return coverage and power over many tables of `count` problems."""
    rng = np.random.default_rng(seed)
    truth = np.asarray([sample.mean() for sample in losses_at(*world.draw(np.random.default_rng(99), TRUTH))])
    kept, cheaper = zip(*(one_table(world, rng, count, limit, truth) for _ in range(tables)), strict=True)
    return {"coverage": float(np.mean(kept)), "power": float(np.mean(cheaper))}


WORLDS = {
    "10 % disagreement, even, blind score": World(0.05, 0.05, 0.0),
    "10 % disagreement, 7 to 3, score of AUROC 0.76": World(0.07, 0.03, 1.0),
    "10 % disagreement, mentor always better, AUROC 0.76": World(0.10, 0.0, 1.0),
    "10 % disagreement, mentor always better, blind score": World(0.10, 0.0, 0.0),
    "40 % disagreement, 35 to 5, AUROC 0.76": World(0.35, 0.05, 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=400)
    args = parser.parse_args()
    for name, world in WORLDS.items():
        for count in (600, 5000):
            for limit in (0.01, 0.02, 0.05):
                found = simulate(world, count=count, limit=limit, tables=args.tables)
                print(json.dumps({"world": name, "problems": count, "limit": limit} | found), flush=True)


if __name__ == "__main__":
    main()
