"""The judgement of frontier.py as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown(found: Mapping[str, Any]) -> str:
    """Return the report of `frontier.evaluate`."""
    cache = "with" if found["cost_model"]["prefix_cache"] else "without"
    lines = [
        "# Everything chosen on training data, judged on others",
        "",
        f"Trained on {_sets(found['train']['problems'])}; points chosen on {', '.join(found['train']['chosen_on'])}; "
        f"judged on {_sets(found['test']['problems'])}.",
        f"Honest TFLOPs {cache} the intern's prefix cache; the insight is {found['cost_model']['insight']}. Brackets "
        "are 95 % intervals (Wilson for an accuracy, paired bootstrap over problems else). Gains are over the chord "
        "between the cheapest and the dearest level at equal cost, in points of accuracy.",
        "",
        "Truncated answers: "
        + ", ".join(f"{name} {share:.1%}" for name, share in found["test"]["truncated"].items())
        + ".",
        "",
        *_table(
            ("strategy", "accuracy", "TFLOPs", "gain", "published TFLOPs", "gain", "mentor tokens", "ACE"),
            [
                (
                    name,
                    f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]",
                    f"{row['tflops']:.3f}",
                    _points(row["gain_over_chord"]),
                    f"{row['tflops_published']:.3f}",
                    _points(row["gain_over_chord_published"]),
                    f"{row['mentor_tokens']:.0f}",
                    "" if row["ace"] is None else f"{row['ace']:.2f}",
                )
                for name, row in sorted(found["strategies"].items(), key=lambda item: item[1]["tflops"])
            ],
        ),
        "`ours` is the point that lay farthest above the chord on the training problems.",
        "",
        *_left_out(found["left_out"]),
        "## Ours against the others",
        "",
        *_table(
            ("ours less", "gain, honest", "gain, published"),
            [(name, _points(row["tflops"]), _points(row["published"])) for name, row in found["differences"].items()],
        ),
        "Share of the oracle's headroom, (ours - chord) / (oracle - chord), each at its own cost: "
        + " honest, ".join(_share(found["headroom_share"][cost]) for cost in ("tflops", "published"))
        + " published.",
        "",
        "## Sufficiency",
        "",
        *_table(
            ("by", "level", "answers", "right", "AUROC", "Brier", "calibration error"),
            [
                (
                    name,
                    level,
                    f"{row['n']}",
                    f"{row['right']:.3f}",
                    "" if row["auroc"] is None else f"{row['auroc']:.3f}",
                    f"{row['brier']:.3f}",
                    f"{row['calibration_error']:.3f}",
                )
                for name, levels in found["sufficiency"].items()
                for level, row in levels.items()
            ],
        ),
        *_aurocs(found["auroc_difference"]),
        "## What would have to change",
        "",
        "The same answers at other prices; points chosen on the training problems at those prices.",
        "",
        *_table(
            ("size ratio", "prefix cache", "ladder", "accuracy", "share of mentor's cost", "gain", "oracle's gain"),
            [
                (
                    f"{row['size_ratio']:g}",
                    "yes" if row["prefix_cache"] else "no",
                    row["point"]["ladder"],
                    f"{100 * row['accuracy']:.1f}",
                    f"{row['share_of_mentor_cost']:.2f}",
                    _points(row["ours"]),
                    _points(row["oracle"]),
                )
                for row in found["what_would_change"]
            ],
        ),
        *_paper(found["published_pair"]),
    ]
    return "\n".join(lines) + "\n"


def _sets(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} problems of {name}" for name, count in counts.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)] + [""]


def _points(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "none"
    return f"{100 * value['value']:+.1f} [{100 * (value['low'] or 0):+.1f}, {100 * (value['high'] or 0):+.1f}]"


def _share(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "none (the oracle has no headroom)"
    return f"{value['value']:.0%} [{value['low'] or 0:.0%}, {value['high'] or 0:.0%}]"


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    return [*(f"Left out: {name}: {reason}." for name, reason in reasons.items()), ""] if reasons else []


def _aurocs(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, levels in found.items():
        parts = [
            f"{level} {row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            for level, row in levels.items()
            if row["value"] is not None
        ]
        lines += [f"AUROC, ours less {name}: {'; '.join(parts)}.", ""]
    return lines


def _paper(found: Mapping[str, Any]) -> list[str]:
    best = found["oracle_math500"]
    return [
        "## The published pair",
        "",
        f"{found['pair']}: {found['source']}.",
        "",
        *_table(
            ("system", "accuracy", "published TFLOPs", "gain"),
            [
                (
                    name,
                    f"{100 * row['accuracy']:.2f}",
                    f"{row['tflops_published']:.2f}",
                    f"{100 * row['gain_over_chord']:+.2f}",
                )
                for name, row in sorted(found["systems"].items(), key=lambda item: item[1]["tflops_published"])
            ],
        ),
        f"On MATH-500 the best level of each problem gives {100 * best['accuracy']:.1f} with {best['mentor_tokens']:g} "
        f"mentor tokens, against {100 * best['mentor_only']:.1f} for the mentor alone with "
        f"{best['mentor_only_tokens']:,} (the paper's code, README).",
    ]
