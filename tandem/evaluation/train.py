"""From a collected table to a classifier in a folder: the work behind `tandem train`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.ladder import ANSWER, Effort, Ladder, format_ladder, parse_ladder
from tandem.spec import ModelSpec
from tandem.sufficiency import training as fit
from tandem.sufficiency.classifier import Card, Classifier
from tandem.sufficiency.replay import Pair, chord, fixed, mean_of, oracle
from tandem.sufficiency.thresholds import DEGENERATE, Point, card_of, choose, search

Say = Callable[[str], None]


def read_collection(source: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows and the manifest of a collection folder, or of a folder with a committed table.

    Raises UsageError if the folder holds neither, TandemError for a damaged table or manifest.
    """
    if not source.exists():
        raise UsageError(f"there is no collection at {source}")
    folder = source if source.is_dir() else source.parent
    manifest_path = folder / "collection.json"
    table = source if source.is_file() else folder / "table.jsonl.gz"
    if not manifest_path.is_file() or not table.is_file():
        raise UsageError(f"{folder} holds no collection (collection.json and table.jsonl.gz); collect one first")
    try:
        lines = gzip.decompress(table.read_bytes()).decode().splitlines()
        return [json.loads(line) for line in lines], json.loads(manifest_path.read_text())
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise TandemError(f"the collection in {folder} is damaged: {error}") from None


def train(
    rows: list[dict[str, Any]],
    manifest: dict[str, Any],
    specs: tuple[ModelSpec, ModelSpec],
    *,
    name: str,
    command: str,
    seed: int = 0,
    hand_over: bool = False,
    say: Say = lambda line: None,
) -> Classifier:
    """Fit, calibrate, choose the operating point on held-out problems, and write the card.

    `specs` are mentor and intern; both need a size and an architecture. `hand_over` lets the policy end at the mentor's
    own answer; else the intern always writes it. Raises UsageError for a table too small.
    """
    ladder, pair = parse_ladder(manifest["ladder"]), Pair(*specs)
    problems = fit.by_problem(rows, ladder)
    parts = fit.split(list(problems), seed)
    say(
        f"{len(problems)} problems: {len(parts.fit)} fit, {len(parts.calibration)} calibrate, "
        f"{len(parts.threshold)} choose the thresholds"
    )
    drafts: dict[int | None, str] = {n: str(n) for n in manifest["draft_lengths"]} | {None: "all"}
    estimators, by_draft, tried = {}, {}, {}
    for draft, column in drafts.items():
        own = fit.intern_rows(problems, parts.fit)
        strength = fit.choose_strength(own, column)
        estimator = fit.calibrate(
            fit.fit_estimator(own, column, strength), fit.intern_rows(problems, parts.calibration), column
        )
        seen = fit.sufficiencies(estimator, problems, parts.calibration, column)
        gains = fit.fit_gains(problems, seen, ladder, pair, draft)
        estimators[draft] = (estimator, strength, gains)
        by_draft[draft] = (fit.sufficiencies(estimator, problems, parts.threshold, column), gains)
        tried[column] = fit.figures(*fit.out_of_fold(problems, column, strength))
        say(f"draft {column:>3}: out-of-fold AUROC {tried[column]['pooled']['auroc']}, C {strength}")
    points = search(problems, by_draft, ladder, pair)
    anchors = _anchors(problems, parts.threshold, ladder, pair)
    goal = _anchor_name(ladder[-1])
    allowed = points if hand_over else [point for point in points if not point.ladder[-1].is_answer]
    if not allowed:
        raise UsageError(
            f"of the levels {format_ladder(ladder)} only the mentor can end a ladder: train with --hand-over"
        )
    point, passed_over = choose(allowed, anchors[goal]["accuracy"])
    estimator, strength, gains = estimators[point.draft]
    card_policy = card_of(point.ladder, point.threshold, point.price, gains)
    policy = card_policy.model_copy(update={"stop_shares": _stop_shares(point)})
    card = Card(
        id=name,
        created=datetime.now(UTC).date().isoformat(),
        command=command,
        mentor=manifest["mentor"],
        intern=manifest["intern"],
        ladder=format_ladder(point.ladder),
        collected_ladder=manifest["ladder"],
        draft_tokens=point.draft,
        signal_version=manifest["signal_version"],
        estimator=manifest["estimator"],
        logprobs_mode=manifest["logprobs_mode"],
        top_logprobs=manifest["top_logprobs"],
        temperature=manifest["sampling"]["temperature"],
        insight_mode=manifest["insight_mode"],
        aim=f"cheapest point at least as accurate as {goal}, else the best accuracy"
        + ("" if hand_over else "; the intern always writes the answer"),
        policy=policy,
        data={
            "problems": fit.counts(problems),
            "rows": len(rows),
            "max_tokens": manifest["max_tokens"],
            "split": {
                "seed": seed,
                "fit": len(parts.fit),
                "calibration": len(parts.calibration),
                "threshold": len(parts.threshold),
            },
            "id_sha256": parts.hashes(),
        },
        figures={
            "model": {"kind": "logistic regression, Platt-calibrated", "C": strength},
            "out_of_fold": tried[drafts[point.draft]],
            "auroc_by_draft": {column: f["pooled"]["auroc"] for column, f in tried.items()},
            "chosen_on_threshold_part": point.describe() | _gain(point, anchors),
            "anchors_on_threshold_part": {
                anchor: {k: round(v, 4) for k, v in found.items()} for anchor, found in anchors.items()
            },
        },
        notes=_notes(point, passed_over, ladder) + _alternatives(point, points, anchors),
    )
    return Classifier(estimator, card)


def _anchors(problems: fit.Problems, ids: list[str], ladder: Ladder, pair: Pair) -> dict[str, dict[str, float]]:
    found = {_anchor_name(level): mean_of([fixed(problems[i], level.name, pair) for i in ids]) for level in ladder}
    found["oracle"] = mean_of([oracle(problems[i], [level.name for level in ladder], pair) for i in ids])
    return found


def _alternatives(point: Point, points: list[Point], anchors: dict[str, dict[str, float]]) -> list[str]:
    """Say what would serve better on the same held-out problems, where something does."""
    notes = []
    alone = anchors.get("mentor-only")
    if alone and alone["accuracy"] >= point.accuracy and alone["tflops"] <= point.tflops:
        notes.append(
            f"On this pair the mentor alone serves better: accuracy {alone['accuracy']:.3f} at {alone['tflops']:.2f} "
            f"TFLOPs, against {point.accuracy:.3f} at {point.tflops:.2f} here (--strategy mentor-only)."
        )
    with_answer = [p for p in points if p.ladder[-1].is_answer and not p.degenerate and p.tflops <= point.tflops]
    if with_answer and not point.ladder[-1].is_answer:
        best = max(with_answer, key=lambda p: (p.accuracy, -p.tflops))
        if best.accuracy > point.accuracy:
            notes.append(
                f"With the mentor's own answer on the ladder (tandem train --hand-over) the best point at no more cost "
                f"is {format_ladder(best.ladder)}: accuracy {best.accuracy:.3f} at {best.tflops:.2f} TFLOPs."
            )
    return notes


def _anchor_name(level: Effort) -> str:
    return {"none": "intern-only", ANSWER: "mentor-only"}.get(level.name, f"fixed:{level.name}")


def _gain(point: Point, anchors: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the gain over a random mix of intern-only and mentor-only at the same cost, in accuracy."""
    if not {"intern-only", "mentor-only"} <= anchors.keys():
        return {}
    ends = [(anchors[name]["tflops"], anchors[name]["accuracy"]) for name in ("intern-only", "mentor-only")]
    return {"gain_over_chord": round(point.accuracy - chord(point.tflops, ends[0], ends[1]), 4)}


def _stop_shares(point: Point) -> dict[str, float]:
    """Return, of the problems that reach a level, the share that ends there."""
    reach, shares = 1.0, {}
    for level in point.ladder:
        share = point.shares[level.name]
        shares[level.name] = round(min(share / reach, 1.0), 4) if reach > 0 else 0.0
        reach -= share
    return shares


def _notes(point: Point, passed_over: Point | None, ladder: Ladder) -> list[str]:
    notes = [
        "The operating point was chosen on the threshold part, so its figures there are optimistic; the out-of-fold "
        "figures are not.",
        "Costs are replayed without any prefix cache.",
    ]
    if point.degenerate:
        notes.append(f"FAILURE: over {DEGENERATE:.0%} of the held-out problems end at one level: it does not adapt.")
    elif passed_over:
        figures = f"accuracy {passed_over.accuracy:.3f}, {passed_over.tflops:.2f} TFLOPs"
        best = f"{format_ladder(passed_over.ladder)} ({figures})"
        notes.append(f"A point that hardly adapts would serve the aim better and was passed over: {best}.")
    dropped = [level.name for level in ladder if level not in point.ladder]
    if dropped:
        notes.append(f"Levels collected but not used by the chosen ladder: {', '.join(dropped)}.")
    return notes
