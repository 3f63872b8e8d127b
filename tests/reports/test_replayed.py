"""A replayed record is what the replay counts: the same endings, and a ledger with the same cost in every unit."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from synthetic import INTERN, LADDER, MENTOR, table

from tandem.costs import UNITS, Unit
from tandem.ladder import Ladder, format_ladder
from tandem.ledger import Ledger
from tandem.reports.replayed import Ending, ledger_of, records, replay_point
from tandem.runs.outcomes import outcomes_of
from tandem.spec import Prices, SpeedProfile
from tandem.sufficiency.points import OperatingPoint
from tandem.sufficiency.policy import PolicyCard, Upgrade
from tandem.training.fit import complete, signals_by_problem, signals_of, with_question
from tandem.training.replay import BatchReplay, Pair, fixed
from tandem.training.upgrades import predict_later
from tandem.types import Message, Problem

FULL = with_question(LADDER)
WHOLE = complete(table(40), FULL)
_PROFILE = SpeedProfile(model="any", uncached=1e-4, cached=1e-6, written=5e-3, device="one", load="saturated")
SPECS = tuple(
    spec.model_copy(update={"prices": Prices(input=price, output=4 * price), "profile": _PROFILE})
    for spec, price in ((MENTOR, 2.5), (INTERN, 0.25))
)


class Seen:
    """A classifier that reads one signal, and whose card says so."""

    id = "seen"

    def __init__(self) -> None:
        self.card = self

    def model(self, name: str) -> Any:
        """Return the features of a model: they are of this one."""
        return self

    features = ("entropy_mean", "log_question_tokens")

    def sufficiency(self, level: object, signals: Any, insight_tokens: int, model: str = "") -> float:
        """Return a probability that follows the entropy, and the question's length where there is no draft."""
        return float(1 / (1 + np.exp(8 * (signals.get("entropy_mean", signals["log_question_tokens"] / 10) - 0.5))))


def points(mode: str) -> list[OperatingPoint]:
    """Return random points over every kind of ladder."""
    draw, found = random.Random(mode), []
    for size in range(1, len(FULL)):
        for rest in combinations(FULL[1:], size):
            ladder: Ladder = (FULL[0], *rest) if draw.random() < 0.5 or len(rest) == 1 else rest
            upgrades = {
                here.name: {
                    there.name: Upgrade(offset=draw.uniform(0, 1), slope=0.6, cost=draw.uniform(0, 0.5))
                    for there in ladder[k + 1 :]
                }
                for k, here in enumerate(ladder[:-1])
            }
            policy = PolicyCard(
                thresholds={level.name: draw.uniform(0.3, 0.9) for level in ladder},
                cost_weight=draw.choice([0.0, 0.2]),
                upgrades=upgrades if draw.random() < 0.5 else {},
            )
            found.append(
                OperatingPoint(ladder=format_ladder(ladder), draft_tokens=draw.choice([32, None]), policy=policy)
            )
    return found


@pytest.mark.parametrize("mode", ["gpra", "prefix"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_replayed_ledger_costs_what_the_replay_counts(mode: str, unit: Unit) -> None:
    pair = Pair(SPECS[0].model_copy(update={"insight_mode": mode}), SPECS[1], unit=unit)
    seen, ids, levels = Seen(), list(WHOLE), set()
    for point in points(mode):
        endings = replay_point(seen, point, WHOLE, ids, pair)  # type: ignore[arg-type]
        expected = _replayed(seen, point, pair)
        costs = [ledger_of(WHOLE[i], endings[i], pair).cost(unit) for i in ids]
        assert costs == pytest.approx(expected.cost.tolist())
        correct = [WHOLE[i][endings[i].level]["correct"] for i in ids]
        assert correct == [bool(value) for value in expected.correct]
        levels |= {ending.level for ending in endings.values()}
    assert levels == {level.name for level in FULL}  # every way to end was met


def _replayed(seen: Seen, point: OperatingPoint, pair: Pair) -> Any:
    from tandem.ladder import parse_ladder

    ladder = parse_ladder(point.ladder)
    column = "all" if point.draft_tokens is None else str(point.draft_tokens)
    p = {
        i: {e.name: seen.sufficiency(e, signals_of(WHOLE[i][e.name], column), 0) for e in ladder if not e.is_answer}
        for i in WHOLE
    }
    later = predict_later(
        point.policy.upgrades, p, signals_by_problem(WHOLE, list(WHOLE), ladder, column, seen.features)
    )
    return BatchReplay.of(WHOLE, p, ladder, pair, point.draft_tokens, point.policy.upgrades, later).run(point.policy)


@pytest.mark.parametrize("unit", UNITS)
def test_a_level_alone_costs_what_the_replay_counts(unit: Unit) -> None:
    pair = Pair(*SPECS, unit=unit)
    for level in FULL:
        for levels in WHOLE.values():
            cost = ledger_of(levels, Ending((), level.name), pair).cost(unit)
            assert cost == pytest.approx(fixed(levels, level.name, pair).cost)


def test_records_are_those_of_a_run() -> None:
    pair, point = Pair(*SPECS, unit="usd"), points("gpra")[-1]
    problems = [Problem(id=i, messages=(Message(role="user", content="?"),), reference="1") for i in WHOLE]
    endings = replay_point(Seen(), point, WHOLE, list(WHOLE), pair)  # type: ignore[arg-type]
    made = list(records(problems, WHOLE, endings, pair, "tandem", classifier="seen"))
    run = outcomes_of(made)
    assert run.ids == list(WHOLE) and run.errors == 0 and sum(run.levels.values()) == len(WHOLE)
    assert run.cost["latency"] is None and run.cost["seconds"] is not None  # nobody waited
    costs = [Ledger.model_validate(record["ledger"]).usd for record in made]
    assert run.costs("usd").tolist() == pytest.approx(costs)
    for record in made:
        assert record["trace"][-1]["action"] == ("answer" if record["level"] == "answer" else "stop") or (
            record["answered_by"] == "mentor"
        )
        assert all(0 <= decision["sufficiency"] <= 1 for decision in record["trace"])
