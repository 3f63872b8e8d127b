"""Do the 90 % intervals of `tandem tune` cover the truth? Users resampled from the committed tables, by replay alone.

    python benchmarks/tune.py                       # 100 users with 200 problems each
    python benchmarks/tune.py --users 20 --json

A user draws problems from the pool (every problem of the demo pair's tables), splits them into a part to learn from and
a hold-out as tune does, trains, chooses a point, and gets the verdict on the hold-out. The truth is what that user's
point does on all problems of the pool that it was not trained on: accuracy less the mentor's, and cost over the
mentor's. As the hold-out is a part of these, `unseen` is the harder question: the pool without any of the user's own
problems, which are as many as the pool has left, so that the truth is itself an estimate.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any, NamedTuple

from tandem.collection.holdout import split
from tandem.costs import Unit
from tandem.paths import shipped
from tandem.reports.replayed import Ending, records, replay_point
from tandem.reports.tune_verdict import LEVEL
from tandem.reports.verdict import Verdict, verdict
from tandem.runs.outcomes import RunOutcomes, outcomes_of
from tandem.spec import ModelSpec, Prices
from tandem.sufficiency.classifier import Classifier
from tandem.training.aims import parse_aim
from tandem.training.data import Table, pair_of, read_collection
from tandem.training.estimators import one_thread
from tandem.training.fit import Problems, complete
from tandem.training.replay import Pair
from tandem.training.train import plan_of, train
from tandem.types import Message, Problem

PAIR = "qwen2.5-coder-1.5b+qwen2.5-coder-0.5b"
DRAFTS = [32]  # and whole answers: fewer than tune tries, so that 100 users take minutes
TABLES = ("", "collected/math500+gsm8k-test", "collected/humaneval")
# US$ per million tokens of a pair as APIs sell them: written tokens at four times the read ones, the models 1 : 10.
MENTOR, INTERN = Prices(input=2.5, output=10.0), Prices(input=0.25, output=1.0)


class User(NamedTuple):
    seed: int
    problems: int
    holdout: float
    unit: Unit
    aim: str


@cache
def pool() -> tuple[Table, Problems]:
    """Return the rows of all tables with the manifest, and the complete problems."""
    tables = [read_collection(shipped("classifiers") / PAIR / part) for part in TABLES]
    rows = [row for own, _ in tables for row in own]
    manifest = tables[0][1]
    return (rows, manifest), complete(rows, plan_of(manifest, specs(), unit="usd").ladder)


@cache
def specs() -> tuple[ModelSpec, ModelSpec]:
    """Return the pair with prices."""
    _, manifest = read_collection(shipped("classifiers") / PAIR)
    mentor, intern = pair_of(manifest)
    return mentor.model_copy(update={"prices": MENTOR}), intern.model_copy(update={"prices": INTERN})


def simulate(user: User) -> dict[str, Any]:
    """Tune for one user and return the intervals with the truth."""
    (rows, manifest), whole = pool()
    mine = random.Random(user.seed).sample(sorted(whole), user.problems)
    # A problem's side is drawn anew for each user: their ids are their own.
    learned, held = ([p.id.partition(":")[2] for p in side] for side in split(_named(user.seed, mine), user.holdout))
    own = set(learned)
    trained = train(
        [row for row in rows if row["problem"] in own],
        manifest | {"draft_lengths": DRAFTS},
        specs(),
        name="user",
        command="benchmarks/tune.py",
        aim=parse_aim(user.aim),
        unit=user.unit,
        kinds=("logistic",),
        strengths=(0.1,),
        outer=2,  # the nested evaluation is not what is measured here
        seed=user.seed,
    )
    assert trained.classifier is not None
    others = [problem for problem in sorted(whole) if problem not in own]
    found = judged(trained.classifier, held, user)
    truth = {"truth": judged(trained.classifier, others, user)}
    truth["unseen"] = judged(trained.classifier, [problem for problem in others if problem not in set(mine)], user)
    row: dict[str, Any] = {"seed": user.seed, "learned": len(learned), "held": len(held)}
    for name in ("accuracy_difference", "cost_ratio"):
        interval = getattr(found, name)
        row[name] = {key: getattr(interval, key) for key in ("value", "low", "high")}
        for which, true in truth.items():
            value = getattr(true, name).value
            row[name][which] = value
            row[name][f"covers_{which}"] = interval.low <= value <= interval.high
    return row


def on_one_core(user: User) -> dict[str, Any]:
    """As `simulate`, where every core has a process."""
    with one_thread():
        return simulate(user)


def judged(classifier: Classifier, ids: Sequence[str], user: User) -> Verdict:
    """Return the verdict on the classifier's points over these problems."""
    _, whole = pool()
    pair = Pair(*specs(), unit=user.unit)
    chosen = classifier.card.choose(user.unit, user.aim)
    endings: dict[str, Ending] = {}
    problems = _named("", ids)
    for kind in sorted({problem.task for problem in problems}):
        of_kind = [problem.id for problem in problems if problem.task == kind]
        endings |= replay_point(classifier, chosen.of(kind), whole, of_kind, pair)

    def run(ends: dict[str, Ending], name: str) -> RunOutcomes:
        return outcomes_of(records(problems, whole, ends, pair, name))

    alone = run({i: Ending((), "answer") for i in ids}, "mentor-only")
    found = verdict(run(endings, "tandem"), alone, user.unit, level=LEVEL)
    assert found is not None
    return found


def _named(user: object, ids: Iterable[str]) -> list[Problem]:
    """Return problems without texts; with a user's own ids, where there is one."""
    return [
        Problem(
            id=f"{user}:{i}" if user != "" else i,
            messages=(Message(role="user", content="-"),),
            task="code" if i.startswith(("HumanEval", "mbpp")) else "math",
        )
        for i in ids
    ]


def main() -> None:
    """Run the simulation and print how often the intervals cover."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--problems", type=int, default=200, help="of each user")
    parser.add_argument("--holdout", type=float, default=0.3)
    parser.add_argument("--unit", default="usd")
    parser.add_argument("--aim", default="accuracy")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print each user's intervals too")
    args = parser.parse_args()
    users = [User(seed, args.problems, args.holdout, args.unit, args.aim) for seed in range(args.users)]
    rows = []
    with ProcessPoolExecutor(args.workers) as workers:
        for row in workers.map(on_one_core, users):
            rows.append(row)
            print(f"\r{len(rows)} of {len(users)} users", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    summary: dict[str, Any] = {"users": len(rows), "pool": len(pool()[1]), "level": LEVEL}
    for name in ("accuracy_difference", "cost_ratio"):
        of_it = [row[name] for row in rows]
        summary[name] = {
            "covers_truth": sum(one["covers_truth"] for one in of_it),
            "covers_unseen": sum(one["covers_unseen"] for one in of_it),
            "mean_truth": round(sum(one["truth"] for one in of_it) / len(of_it), 4),
            "mean_width": round(sum(one["high"] - one["low"] for one in of_it) / len(of_it), 4),
        }
    print(json.dumps(summary | ({"rows": rows} if args.json else {}), indent=None if args.json else 2))


if __name__ == "__main__":
    main()
