"""How fast math answers are graded: 5,000 gradings of a real mix, and what one pathological answer costs the others.

python benchmarks/grading.py [--gradings 5000] [--deadline 1]

The mix is MATH-500 and GSM8K's test split: each reference against itself, in a box, against its whole reference
solution, and against its neighbours' references (which are mostly wrong, and take the algebra). `hard` are pairs that
only algebra tells apart. The targets: 5,000 gradings of the mix on 2 cores in under 60 s, and a pathological answer
costs its deadline while the others go on.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from tandem.datasets import load_dataset
from tandem.datasets.cards import load_card
from tandem.datasets.locations import locate
from tandem.grading import close_graders, grade
from tandem.types import Problem

_PATHOLOGICAL = ["9^{9^{9^{9}}}", r"\frac{1}{1+" * 150 + "1" + "}" * 150, "(10^{8})!"]
_FORMULA = re.compile(
    r"(?=.*(?:sqrt|\^|pi))(?!.*(?:text|mbox|degree|circ))[^,=<>&]*(?<!})|[a-z0-9+^*() -]*[a-z][a-z0-9+^*() -]*"
)
Pair = tuple[Problem, str]


def mix() -> list[Pair]:
    """Return problems with texts, as described above."""
    pairs: list[Pair] = []
    for name, field in (("math500", "solution"), ("gsm8k", "answer")):
        problems = load_dataset(name)
        references = [str(problem.reference) for problem in problems]
        path = locate(load_card(name), "test", fetch=False)
        assert path is not None
        solutions = [row[field] for row in _rows(path)]
        pairs += zip(problems, references, strict=True)
        pairs += [(p, f"So \\boxed{{{reference}}}.") for p, reference in zip(problems, references, strict=True)]
        pairs += zip(problems, solutions, strict=True)
        for step in (1, 2, 3) if name == "math500" else (1,):
            moved = references[step:] + references[:step]
            pairs += [(p, f"\\boxed{{{reference}}}") for p, reference in zip(problems, moved, strict=True)]
    return pairs


def hard(pairs: list[Pair]) -> list[Pair]:
    """Return formulas that equal a reference of the mix, in a form that only algebra sees through."""
    formulas = {p.id: (p, str(p.reference)) for p, _ in pairs if _FORMULA.fullmatch(str(p.reference))}
    return [(p, f"\\boxed{{0 + 1 \\cdot ({reference})}}") for p, reference in formulas.values()]


def _rows(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.splitlines() if line.strip()]


async def timed(pairs: list[Pair], deadline: float = 5.0) -> tuple[float, Counter[bool | None]]:
    """Return seconds and verdicts of grading all pairs at once."""
    started = time.perf_counter()
    verdicts = await asyncio.gather(*(grade(problem, text, deadline=deadline) for problem, text in pairs))
    return time.perf_counter() - started, Counter(verdicts)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradings", type=int, default=5000)
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds for a pathological answer")
    given = parser.parse_args()
    real = mix()
    pairs = list(islice(cycle(real), given.gradings))

    seconds, verdicts = await timed(pairs)  # worker starts included
    print(f"{len(pairs)} gradings of the mix: {seconds:.1f} s, {len(pairs) / seconds:.0f} a second", end="")
    print(f" ({verdicts[True]} right, {verdicts[False]} wrong; target 60 s for 5000)")

    algebra = hard(real)
    seconds, verdicts = await timed(algebra)
    print(f"{len(algebra)} that need algebra: {seconds:.1f} s, {len(algebra) / seconds:.0f} a second", end="")
    print(f" ({verdicts[True]} right)")

    problem = Problem.from_text("?", task="math", reference=r"\frac{\sqrt{3}}{3}")
    for answer in _PATHOLOGICAL:
        alone, _ = await timed([(problem, f"\\boxed{{{answer}}}")], given.deadline)
        among, found = await timed([(problem, f"\\boxed{{{answer}}}"), *algebra], given.deadline)
        others = f"with {len(algebra)} others beside it {among:.1f} s, {found[True]} of them right"
        print(f"pathological {answer[:20]}: {alone:.2f} s for a deadline of {given.deadline:g} s; {others}")
    close_graders()


asyncio.run(main())
