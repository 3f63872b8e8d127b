"""From how many problems of a kind of task a point of its own pays: chosen on parts of the demo pair's table.

Of each kind so many problems are drawn, and of the others in proportion. A point is chosen on the kind's alone and one
on all of them; both are replayed on the kind's other problems. Sufficiencies are those out of fold on the whole table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tandem.costs import LABELS, Unit, parse_unit
from tandem.statistics.chord import chord
from tandem.sufficiency.classifier import find_classifier
from tandem.training.aims import parse_aim
from tandem.training.data import rated_pair, read_collection
from tandem.training.fit import Problems, by_problem, kinds_of
from tandem.training.replay import ReplayResult, replay_fixed
from tandem.training.search import Point, Space
from tandem.training.selection import Chosen, Fits, TrainingPlan, by_aim, fit_all, search, with_features
from tandem.training.train import plan_of

PAIR = "qwen2.5-coder-1.5b+qwen2.5-coder-0.5b"
PROFILES = {  # those that are shipped
    "mentor_profile": "qwen2.5-coder-1.5b-vllm-8x256+64",
    "intern_profile": "qwen2.5-coder-0.5b-vllm-8x512+128",
}


def gain(problems: Problems, fits: Fits, plan: TrainingPlan, chosen: Chosen, point: Point, ids: Sequence[str]) -> float:
    """Return how far a point lies above the chord on problems that did not choose it."""
    own = chosen.space.by_draft[point.draft]
    predictions = replace(own, p={i: fits.predictions[point.draft].p[i] for i in ids})
    ends = Space(problems, {point.draft: predictions}, plan.ladder, plan.pair).ends(point)
    means = [_mean(replay_fixed(problems, ids, plan.ladder[k].name, plan.pair)) for k in (0, -1)]
    cost, accuracy = _mean(ends)
    return accuracy - float(chord(cost, *means))


def _mean(ends: ReplayResult) -> tuple[float, float]:
    return float(ends.cost.mean()), float(ends.correct.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unit", type=parse_unit, default="seconds")
    parser.add_argument("--prices", help="a price file, for --unit usd")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--sizes", default="20,30,40,60,80", help="problems of the kind")
    parser.add_argument("--aims", default="gain,cost:0.8")
    args = parser.parse_args()
    unit: Unit = args.unit
    rows, manifest = read_collection(find_classifier(PAIR))
    plan = plan_of(manifest, rated_pair(manifest, prices=args.prices, **PROFILES), unit=unit, kinds=("logistic",))
    problems = by_problem(rows, plan.ladder)
    plan = with_features(plan, problems)
    fits = fit_all(problems, list(problems), plan)
    kinds, draw = kinds_of(problems, problems), np.random.default_rng(0)
    print(f"| kind, aim; {LABELS[unit]} | problems of the kind | own point | point for all kinds | own less all (se) |")
    print("| --- | --- | --- | --- | --- |")
    for kind, members in kinds.items():
        for size in (int(text) for text in args.sizes.split(",")):
            found: dict[str, list[tuple[float, float]]] = {aim: [] for aim in args.aims.split(",")}
            for _ in range(args.draws):
                parts = {
                    one: list(draw.permutation(own)[: round(size * len(own) / len(members))])
                    for one, own in kinds.items()
                }
                every, taken = [i for part in parts.values() for i in part], set(parts[kind])
                rest = [i for i in members if i not in taken]
                alone, pooled = (search(problems, fits, plan, ids) for ids in (parts[kind], every))
                for aim, gains in found.items():
                    wanted = parse_aim(aim)
                    points = by_aim(wanted, any_point=True)(alone), by_aim(wanted)(pooled)
                    one, other = (
                        gain(problems, fits, plan, chosen, point, rest)
                        for chosen, point in zip((alone, pooled), points, strict=True)
                    )
                    gains.append((one, other))
            for aim, pairs in found.items():
                own, every_kind = 100 * np.asarray(pairs).T
                more = own - every_kind
                error = more.std(ddof=1) / np.sqrt(len(more))
                print(
                    f"| {kind}, {aim} | {size} | {own.mean():+.1f} | {every_kind.mean():+.1f} | "
                    f"{more.mean():+.1f} ({error:.1f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
