"""The tables of docs and README that follow from committed files, written again where they stand.

python scripts/figures.py            all of them; about ten minutes on two cores
python scripts/figures.py by-unit    these alone
python scripts/figures.py --check    writes nothing; exit code 1 where a table is not what it should be

A table stands between `<!-- figures: NAME -->` and `<!-- end of NAME -->` on a page.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import click

from tandem.ladder import parse_ladder
from tandem.models.profiles import KeptProfile, kept_profiles
from tandem.reports.frontier import evaluate
from tandem.reports.points import evaluate_points, points_markdown
from tandem.reports.replayed import Ending, records, replay_point
from tandem.reports.verdict import Verdict, verdict
from tandem.runs.outcomes import outcomes_of
from tandem.sufficiency.classifier import Classifier, load_classifier
from tandem.sufficiency.rows import Row
from tandem.training.data import Table, rated_pair, read_collection
from tandem.training.fit import Problems, complete, dataset_of, kinds_of, with_question
from tandem.training.replay import Pair
from tandem.types import Message, Problem

TOP = Path(__file__).resolve().parents[1]
PAIR = "qwen2.5-coder-1.5b+qwen2.5-coder-0.5b"
HOME = TOP / "classifiers" / PAIR
MATH, CODE = HOME / "collected" / "math500+gsm8k-test", HOME / "collected" / "humaneval"
PRICES = HOME / "what-if-prices.yaml"
PROFILES = {  # those that are shipped
    "mentor_profile": "qwen2.5-coder-1.5b-vllm-8x256+64",
    "intern_profile": "qwen2.5-coder-0.5b-vllm-8x512+128",
}
BLOCK = r"(<!-- figures: {name} -->\n)(.*?)(<!-- end of {name} -->)"
Lines = Iterator[str]


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def heading(*cells: str) -> Lines:
    yield row(*cells)
    yield row(*["---"] * len(cells))


def points(found: Any) -> str:
    """Return a difference in accuracy, in points, with its interval."""
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


# The demo pair, replayed.


def held_out(table: Path) -> tuple[Problems, list[Problem], Pair]:
    """Return a committed table's rows, its problems (ids alone: texts are not committed), and the pair."""
    rows, manifest = read_collection(table)
    whole = complete(rows, with_question(parse_ladder(manifest["ladder"])))
    problems = [
        Problem(id=name, task=kind, messages=(Message(role="user", content=name),))
        for kind, names in kinds_of(whole, whole).items()
        for name in names
    ]
    return whole, problems, Pair(*rated_pair(manifest, **PROFILES), unit="seconds")


def judged(classifier: Classifier, table: Path, aim: str) -> Verdict:
    """Return the verdict, in device time, on the point of an aim over a table's problems."""
    whole, problems, pair = held_out(table)
    chosen, ends = classifier.card.choose("seconds", aim), dict[str, Ending]()
    for kind, ids in kinds_of(whole, whole).items():
        ends |= replay_point(classifier, chosen.of(kind), whole, ids, pair)
    alone = {problem.id: Ending((), "answer") for problem in problems}
    ours, mentor = (outcomes_of(records(problems, whole, e, pair, "tandem")) for e in (ends, alone))
    found = verdict(ours, mentor, "seconds")
    assert found is not None
    return found


def in_words(found: Verdict) -> str:
    accuracy, ratio = found.accuracy_difference, found.cost_ratio
    assert accuracy is not None and ratio is not None
    assert None not in (accuracy.low, accuracy.high, ratio.low, ratio.high)
    if ratio.low == ratio.high == 1:
        return "nothing saved: every problem is left to the mentor"
    if accuracy.high < 0:
        return "cheaper, and less accurate"
    return "as accurate, and cheaper" if accuracy.low > -0.05 else "cheaper; not shown to be as accurate"


def verdicts() -> Lines:
    yield from heading("held-out problems", "aim", "mentor alone", "Tandem", "difference", "device time", "verdict")
    classifier = load_classifier(PAIR)
    for name, table, aims in (("math", MATH, ("accuracy", "cost:0.8")), ("code", CODE, ("accuracy",))):
        for aim in aims:
            found = judged(classifier, table, aim)
            ratio = found.cost_ratio
            yield row(
                f"{found.problems} {name}", f"`{aim}`",
                f"{100 * found.mentor_accuracy:.1f} %", f"{100 * found.accuracy:.1f} %",
                points(found.accuracy_difference),
                f"{100 * ratio.value:.0f} % ({100 * ratio.low:.0f} to {100 * ratio.high:.0f})", in_words(found),
            )  # fmt: skip


def levels() -> Lines:
    rows, manifest = read_collection(HOME)
    sets = sorted({dataset_of(one["problem"]) for one in rows})
    by_level: dict[str, dict[str, list[Row]]] = {}
    for one in rows:
        by_level.setdefault(one["level"], {}).setdefault(dataset_of(one["problem"]), []).append(one)
    count = {name: len(by_level["none"][name]) for name in sets}
    yield from heading("right (mean tokens of mentor / intern)", *(f"{name}, {count[name]}" for name in sets))
    for level in parse_ladder(manifest["ladder"]):
        found = by_level[level.name]
        tokens = f", {level.tokens} mentor tokens" if level.tokens else ""
        yield row(f"`{level.name}`{tokens}", *(_accuracy(found[name], level.is_answer) for name in sets))


def _accuracy(rows: Sequence[Row], mentors: bool) -> str:
    written = fmean(one["completion_tokens"] for one in rows)
    insight = fmean(one.get("insight_tokens", 0) for one in rows)
    both = (written, 0) if mentors else (insight, written)
    return f"{fmean(one['correct'] for one in rows):.3f} ({both[0]:.0f} / {both[1]:.0f})"


def by_unit() -> Lines:
    parts = [read_collection(path) for path in (MATH, CODE)]
    pair = Pair(*rated_pair(parts[0][1], prices=PRICES, **PROFILES), unit="usd")
    found = evaluate_points(load_classifier(PAIR), _joined(parts), pair, ("accuracy", "cost:0.8", "gain"))
    yield from points_markdown(found | {"points": [line for line in found["points"] if line["kind"] != "all"]})


def _joined(parts: Sequence[Table]) -> Table:
    return [one for rows, _ in parts for one in rows], parts[0][1]


def profiles() -> Lines:
    yield from heading(
        "model", "on", "tokens of prompt + answer", "uncached", "cached", "written", "written : uncached"
    )
    for kept in (kept for kept in kept_profiles() if kept.shipped):
        own = kept.profile
        yield row(
            own.model, f"{own.endpoint} ({kept.engine})", f"{own.prompt_tokens} + {own.completion_tokens}",
            f"{1000 * own.uncached:.3g}{_spread(kept, 'uncached')}", f"{1000 * own.cached:.2g}",
            f"{1000 * own.written:.3g}{_spread(kept, 'written')}",
            f"{own.written / own.uncached:.1f}",
        )  # fmt: skip


def _spread(kept: KeptProfile, kind: Literal["uncached", "written"]) -> str:
    spread = kept.spread(kind)
    return "" if spread is None else f" ({spread:.0%})"


RATIOS: dict[str, float | None] = {"3": 3, "10": 10, "30": 30, "own hardware, free": None}
POINTS = {
    "ours, accuracy": "`accuracy`",
    "ours, cost:0.8": "`cost:0.8`",
    "ours": "`gain`",
    "fixed:high": "always `high`",
}


def by_ratio() -> Lines:
    """Choose points at each price of the mentor on the training problems, and evaluate them on the others."""
    table = read_collection(HOME)
    yield from heading(
        "mentor over intern", "problems", "aim", "ladder chosen", "accuracy above the mentor's", "share of its cost",
        "over the chord",
    )  # fmt: skip
    tests = (("math", MATH, ("gsm8k-train", "math-train")), ("code", CODE, ("mbpp",)))
    with tempfile.TemporaryDirectory() as folder:
        for (name, ratio), (kind, test, domain) in itertools.product(RATIOS.items(), tests):
            prices = Path(folder) / "prices.yaml"
            prices.write_text(_prices(table[1], ratio))
            specs = rated_pair(table[1], prices=prices)
            found = evaluate(table, read_collection(test), specs, kinds=("logistic",), domain=domain, unit="usd")
            for strategy, label in POINTS.items():
                own = found["strategies"][strategy]
                ladder = found["points"].get(strategy, {}).get("ladder", "")
                yield row(
                    name, kind, label, f"`{ladder}`" if ladder else "", scaled(own["accuracy_difference"], "+.1f"),
                    f"{scaled(own['cost_ratio']['usd'], '.0f')} %", scaled(own["gain_over_chord"]["usd"], "+.1f"),
                )  # fmt: skip


def scaled(found: Mapping[str, float], digits: str) -> str:
    """Return a share with its interval, times 100."""
    value, low, high = (f"{100 * found[key]:{digits}}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _prices(manifest: Mapping[str, Any], ratio: float | None) -> str:
    """Return a price file at which a mentor's token costs `ratio` of the intern's, all at 1 : 0.1 : 5."""
    each = {manifest["mentor"]: ratio or 1.0} | ({} if ratio is None else {manifest["intern"]: 1.0})
    return "".join(
        f"{name}: {{input: {price}, cached_input: {price / 10}, output: {5 * price}}}\n" for name, price in each.items()
    )


# Commands whose output is the table, or holds it.


def run(*command: str) -> str:
    """Run a program of this checkout with this Python; return what it printed."""
    done = subprocess.run([sys.executable, *command], cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def points_by_kind() -> Lines:
    yield from run("benchmarks/points_by_kind.py", "--sizes", "40,60,80,100").splitlines()


def unseen() -> Lines:
    """Everything selected on the training table, on each of the test sets, in TFLOPs."""
    sets = {
        "MATH-500, 75": (MATH, "math500"),
        "GSM8K-test, 150": (MATH, "gsm8k-test"),
        "HumanEval, 164": (CODE, "HumanEval"),
    }
    found = {}
    for name, (table, domain) in sets.items():
        printed = run(
            "-m", "tandem", "train", str(HOME), "--unit", "tflops", "--evaluate", str(table), "--test-sets", domain
        )
        lines = printed.partition("| strategy | accuracy |")[2].partition("\n\n")[0].splitlines()[2:]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        found[name] = {own[0]: own for own in cells}
    yield from heading("accuracy in %; TFLOPs; points over the chord", *sets)
    for strategy in next(iter(found.values())):
        yield row(strategy, *(f"{own[1]}; {own[2]}; {own[3]}" for own in (found[name][strategy] for name in sets)))


GROUPS = ("question (all 3)", "change (all 7)", "insight (all 5)", "agreement (all 7)", "published (all 23)")
DRAFTS = ("16", "32", "64", "128", "all")


def signals() -> Lines:
    found = json.loads(run("-m", "tandem", "signals", str(HOME), "--json"))
    by_name = {(one["kind"], one["signal"], one["draft"]): one for one in found}
    yield from heading("", *(f"{draft} tokens" if draft != "all" else "the whole answer" for draft in DRAFTS))
    standing = [by_name["standing", "standing", draft] for draft in DRAFTS]
    yield row("the standing signals: AUROC", *(_plain(one["auroc"]["pooled"]) for one in standing))
    yield row("calibration error", *(f"{one['calibration_error']:.3f}" for one in standing))
    yield row("curve", *(f"{100 * one['curve']['value']:+.1f}" for one in standing))
    shown = [("with", f"with {name}", name) for name in GROUPS] + [("without", "without settling", "settling")]
    for kind, label, name in shown:
        own = [by_name[kind, name, draft] for draft in DRAFTS]
        yield row(f"{label}: AUROC", *(_change(one["auroc"]["pooled"], 1, 3) for one in own))
        yield row("curve", *(_change(one["curve"], 100, 1) for one in own))


def _plain(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.3f} ({found['ci95'][0]:.3f} to {found['ci95'][1]:.3f})"


def _change(found: Mapping[str, Any], times: float, digits: int) -> str:
    low, high = found["difference_ci95"]
    return f"{times * found['difference']:+.{digits}f} ({times * low:+.{digits}f} to {times * high:+.{digits}f})"


TABLES: dict[str, Callable[[], Lines]] = {
    "verdicts": verdicts,
    "levels": levels,
    "profiles": profiles,
    "by-unit": by_unit,
    "by-ratio": by_ratio,
    "unseen": unseen,
    "points-by-kind": points_by_kind,
    "signals": signals,
}


def pages() -> dict[str, Path]:
    """Return the page that each table stands on."""
    found = {}
    for path in (TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))):
        for name in re.findall(r"<!-- figures: ([\w-]+) -->", path.read_text()):
            found[name] = path
    return found


def standing(name: str) -> str:
    """Return a table as it stands on its page."""
    found = re.search(BLOCK.format(name=name), pages()[name].read_text(), re.DOTALL)
    assert found, name
    return found[2]


def written(name: str) -> str:
    """Return a table as it should stand there."""
    return "".join(f"{line}\n" for line in TABLES[name]())


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(sorted(TABLES)))
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 where a table is not what it should be.")
def main(names: tuple[str, ...], check: bool) -> None:
    where, differ = pages(), []
    for name in names or TABLES:
        click.echo(f"{name} ...", err=True)
        if (made := written(name)) == standing(name):
            continue
        differ.append(name)
        if not check:
            text = where[name].read_text()
            where[name].write_text(
                re.sub(
                    BLOCK.format(name=name), lambda found, made=made: found[1] + made + found[3], text, flags=re.DOTALL
                )
            )
    click.echo(f"{'differ' if check else 'written'}: {', '.join(differ) or 'none'}")
    sys.exit(bool(differ) and check)


if __name__ == "__main__":
    main()
