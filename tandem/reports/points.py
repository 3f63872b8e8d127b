"""What a classifier's shipped points do on tables of other problems, replayed: by unit, aim and kind of task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tandem.costs import LABELS, known_units
from tandem.errors import UsageError
from tandem.ladder import parse_ladder
from tandem.reports.replayed import predicted
from tandem.statistics.intervals import Bootstrap
from tandem.sufficiency.classifier import Classifier
from tandem.sufficiency.points import ALL, ChosenPoints, Kind
from tandem.training.data import Table
from tandem.training.fit import Problems, complete, counts, kinds_of, with_question
from tandem.training.points import against
from tandem.training.replay import BatchReplay, Pair, ReplayResult, replay_fixed
from tandem.types import TaskKind


def evaluate_points(classifier: Classifier, table: Table, pair: Pair, aims: Sequence[str] = ()) -> dict[str, Any]:
    """Return, for each unit and aim that the card has points for, how they end problems that it was not fitted on.

    A unit in which both models have rates but the card has no points is counted for the points of the card's own unit.
    `pair` gives the models and whether there is a prefix cache. Raises UsageError for a problem that the card has seen.
    """
    card = classifier.card
    ladder = with_question(parse_ladder(table[1]["ladder"]))
    problems = complete(table[0], ladder)
    if seen := [i for i in problems if card.saw(i)]:
        raise UsageError(f"{len(seen)} problems of the table trained '{card.id}' (as {seen[0]}): evaluate it on others")
    if not problems:
        raise UsageError("no problem of the table has all of its levels")
    kinds: dict[Kind, list[str]] = {ALL: list(problems)}
    kinds.update(kinds_of(problems, problems).items())
    lines = []
    for unit in (unit for unit in known_units(pair.mentor, pair.intern) if unit != "mentor_tokens"):
        own, chosen_in = replace(pair, unit=unit), unit if unit in card.points else card.unit
        anchors = [replay_fixed(problems, kinds[ALL], ladder[k].name, own) for k in (0, -1)]
        for aim in card.points.get(chosen_in, {card.aim: {}}):
            if aims and aim not in aims:
                continue
            ends = _ends(classifier, card.choose(chosen_in, aim), problems, own)
            for kind, ids in kinds.items():
                if kind != ALL and len(kinds) == 2:
                    continue  # the only kind there is
                at = [kinds[ALL].index(i) for i in ids]
                found, cheap, mentor = (_only(one, at) for one in (ends, *anchors))
                boot = Bootstrap(len(ids))
                line = {"unit": unit, "chosen_in": chosen_in, "aim": aim, "kind": kind, "problems": len(ids)}
                lines.append(line | found.means() | against(boot, found, cheap, mentor))
    return {"classifier": card.id, "problems": counts(problems), "points": lines}


def _ends(classifier: Classifier, chosen: ChosenPoints, problems: Problems, pair: Pair) -> ReplayResult:
    """Return how each problem ends by the point of its kind, in the problems' order."""
    ids: list[str] = []
    parts = []
    by_kind: Mapping[TaskKind, Sequence[str]] = kinds_of(problems, problems)
    for kind, own in by_kind.items():
        point = chosen.of(kind)
        p, later = predicted(classifier, point, problems, own)
        ladder, upgrades = parse_ladder(point.ladder), point.policy.upgrades
        replay = BatchReplay.of(problems, p, ladder, pair, point.draft_tokens, upgrades, later)
        parts.append(replay.run(point.policy))
        ids += own
    joined, place = ReplayResult.join(parts), {i: n for n, i in enumerate(ids)}
    return _only(joined, [place[i] for i in problems])


def _only(result: ReplayResult, at: Sequence[int]) -> ReplayResult:
    return ReplayResult(result.level[at], result.correct[at], result.cost[at], result.mentor_tokens[at])


def points_markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of `evaluate_points`, one line for each unit, aim and kind."""
    yield "| unit | aim | problems | accuracy above the mentor's | share of its cost | over the chord |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for line in found["points"]:
        chosen = "" if line["unit"] == line["chosen_in"] else f" (chosen by {LABELS[line['chosen_in']]})"
        yield (
            f"| {LABELS[line['unit']]}{chosen} | {line['aim']} | {line['kind']}, {line['problems']} | "
            f"{_points(line['accuracy_difference'])} | {_share(line['cost_ratio'])} | "
            f"{_points(line['gain_over_chord'])} |"
        )


def _points(found: Mapping[str, float | None]) -> str:
    value, low, high = (found[key] for key in ("value", "low", "high"))
    return "none" if value is None else f"{100 * value:+.1f} [{100 * (low or 0):+.1f}, {100 * (high or 0):+.1f}]"


def _share(found: Mapping[str, float | None]) -> str:
    value, low, high = (found[key] for key in ("value", "low", "high"))
    return "none" if value is None else f"{value:.0%} [{low or 0:.0%}, {high or 0:.0%}]"
