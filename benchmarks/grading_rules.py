r"""What each rule beside Math-Verify does: every rule switched off by itself, and the verdicts that change.

python benchmarks/grading_rules.py [--references 2500] [--json FILE]

The pairs are those of tests/grading/math_cases.json, and the references of MATH-500, MATH's train split and GSM8K
against variants of themselves (right) and against one another's (wrong). A rule is of use where verdicts change
without it, or where many pairs go to the algebra without it, which costs milliseconds in a process of its own; and
best-of compares samples without the algebra.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tandem.datasets import load_dataset
from tandem.grading import close_graders, formulas, normalise, numbers
from tandem.grading.algebra import formulas_equal

CASES = Path(__file__).parents[1] / "tests" / "grading" / "math_cases.json"
_NEVER = re.compile(r"(?!)")
_UNICODE = {
    r"\pi": "π", r"\infty": "∞", r"\cup": "∪", r"\cap": "∩", r"\in": "∈", r"\le": "≤", r"\ge": "≥", r"\leq": "≤",
    r"\geq": "≥", r"\times": "×", r"\cdot": "·", r"\pm": "±", r"\emptyset": "∅", r"\langle": "⟨", r"\rangle": "⟩",
    r"\ne": "≠", r"\neq": "≠", r"\approx": "≈",
}  # fmt: skip
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_AROUND = (
    *("{}", "${}$", "$${}$$", "\\({}\\)", "{}.", " {} ", "x = {}", "x={}"),
    *("\\displaystyle {}", "\\text{{{}}}", "\\mathrm{{{}}}", "\\textbf{{{}}}"),
)
_AROUND_NUMBERS = (
    r"{}.0 ; \${} ; {}\% ; {} percent ; {}\text{{ cm}} ; {} cm ; {} apples ; {} square feet ; {}^\circ ; about {} ; "
    r"\approx {} ; {}\text{{ units}} ; {}\mbox{{ inches}}^2 ; {} degrees ; {{{}}} ; {}\, \text{{km/h}} ; {} m/s ; "
    r"{} \text{{ dollars}} ; €{} ; USD {} ; {}e0 ; {}\times 10^0"
)
Pair = tuple[str, str, bool | None]  # a reference, an answer, whether they are the same (None: unknown)


def variants(reference: str) -> Iterator[str]:
    """Yield other ways to write a reference, as models and data sets do."""
    yield from (form.format(reference) for form in _AROUND)
    for old, new in (("\\frac", "\\dfrac"), ("\\frac", "\\tfrac")):
        yield reference.replace(old, new)
    for opened, closed in ("()", "[]", ("\\{", "\\}")):
        if "\\left" not in reference:
            yield reference.replace(opened, f"\\left{opened}").replace(closed, f"\\right{closed}")
    yield _FRACTION.sub(r"\1/\2", reference)
    yield _FRACTION.sub(r"(\1)/(\2)", reference)
    yield re.sub(r"\\frac\{(\w)\}\{(\w)\}", r"\\frac\1\2", reference)
    yield re.sub(r"\\sqrt\{(\w)\}", r"\\sqrt\1", reference)
    yield re.sub(r"\\sqrt\{(\w+)\}", r"√\1", reference)
    changed = re.sub(r"\\[a-z]+", lambda m: _UNICODE.get(m[0], m[0]), reference)
    yield changed.replace("^2", "²").replace("^3", "³").replace("^\\circ", "°").replace("-", "−")
    yield re.sub(r"\s+", "", reference) if "\\" not in reference else re.sub(r"(?<=[,=+-])\s+", "", reference)
    yield re.sub(r"([,=+-])", r" \1 ", reference)
    yield reference.replace(" ", "\\ ")
    yield reference.replace(", ", ",\\,")
    if re.fullmatch(r"-?\d+", reference):
        number = int(reference)
        yield from (form.format(number) for form in _AROUND_NUMBERS.split(" ; "))
        yield from (f"{number:,}".replace(",", comma) for comma in (",", "{,}", ",\\!", "\\,", " "))
        yield f"\\frac{{{2 * number}}}{{2}}"
        if 0 <= number < len(_WORDS):
            yield _WORDS[number]
        if number > 1000 and not number % 1000:
            yield f"{number // 1000} thousand"
    if match := re.fullmatch(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", reference):
        sign, top, bottom = match[1], int(match[2]), int(match[3])
        yield f"{sign}{top / bottom:.10g}"
        yield f"\\frac{{{sign}{top}}}{{{bottom}}}"
        yield f"{sign}\\frac{{{3 * top}}}{{{3 * bottom}}}"
        if top > bottom and top % bottom:
            yield f"{sign}{top // bottom}\\frac{{{top % bottom}}}{{{bottom}}}"
            yield f"{sign}{top // bottom} {top % bottom}/{bottom}"


def pairs(most: int) -> list[Pair]:
    """Return the pairs to be judged, each once."""
    cases = json.loads(CASES.read_text("utf-8"))
    found: dict[Pair, None] = {(c["reference"], c["answer"], c["equal"]): None for c in cases}
    named = [("math500", "test"), ("math", "train"), ("gsm8k", "test")]
    references = [str(p.reference) for name, split in named for p in load_dataset(name, split=split) if p.reference]
    unique = list(dict.fromkeys(references))[:most]
    for reference, other in zip(unique, unique[1:] + unique[:1], strict=True):
        found |= {(reference, answer, True): None for answer in variants(reference)}
        found |= {(reference, answer, None): None for answer in (other, f"${other}$", f"\\text{{{other}}}")}
    return list(found)


def rules() -> dict[str, Callable[[], Any]]:
    """Return for each rule what switches it off."""
    off: dict[str, Callable[[], Any]] = {}
    for place, (pattern, _) in enumerate(normalise._REWRITES):
        rest = [rule for at, rule in enumerate(normalise._REWRITES) if at != place]
        off[f"rewrite {pattern.pattern}"] = lambda rest=rest: patch.object(normalise, "_REWRITES", rest)
    for code in normalise._CHARACTERS:
        rest_of = {other: into for other, into in normalise._CHARACTERS.items() if other != code}
        off[f"character {chr(code)!a}"] = lambda rest_of=rest_of: patch.object(normalise, "_CHARACTERS", rest_of)
    constant: dict[str, tuple[Any, str, Any]] = {
        "unit": (normalise, "_unit", lambda text: None),
        "words behind a value, numerals": (normalise, "_without_words", lambda text: text),
        "plus-minus": (normalise, "_both_signs", lambda text: text),
        "thousands": (normalise, "_THOUSANDS", _NEVER),
        "spaces": (normalise, "_packed", lambda text: text),
        "words": (normalise, "_compare_words", lambda left, right: None),
        "bases": (normalise, "_compare_based", lambda left, right: None),
        "brackets": (normalise, "_compare_brackets", lambda left, right: None),
        "numbers": (normalise, "compare_numbers", lambda left, right: None),
        "union": (formulas, "_as_union", lambda text: text),
        "degrees and radians": (formulas, "_in_radians", lambda side: False),
        "scientific": (numbers, "_SCIENTIFIC", _NEVER),
        "mixed": (numbers, "_MIXED", _NEVER),
        "ratio": (numbers, "_RATIO", _NEVER),
        "repeating": (numbers, "_REPEATING", _NEVER),
        "multiplier": (numbers, "_MULTIPLIER", _NEVER),
    }
    for name, (module, attribute, value) in constant.items():
        off[name] = lambda module=module, attribute=attribute, value=value: patch.object(module, attribute, value)
    return off


class Algebra:
    """Math-Verify's verdicts, each asked for once; `asked` counts how often they were wanted."""

    def __init__(self) -> None:
        self.asked = 0
        self._known: dict[tuple[str, str], asyncio.Task[bool]] = {}

    async def equal(self, reference: str, answer: str, deadline: float) -> bool:
        self.asked += 1
        key = (reference, answer)
        if key not in self._known:
            self._known[key] = asyncio.ensure_future(formulas_equal(reference, answer, deadline))
        return await self._known[key]


async def verdicts(of: list[Pair], algebra: Algebra) -> tuple[list[bool], int, float]:
    """Return the verdicts, how many took algebra, and the seconds for all that is none."""
    algebra.asked = 0
    with patch.object(formulas, "formulas_equal", algebra.equal):
        found = await asyncio.gather(*(formulas.same_answer(ref, answer, 5.0) for ref, answer, _ in of))
    asked, quick = algebra.asked, 0.0

    async def instant(reference: str, answer: str, deadline: float) -> bool:
        return False

    with patch.object(formulas, "formulas_equal", instant):
        started = time.process_time()
        for reference, answer, _ in of:
            await formulas.same_answer(reference, answer, 5.0)
        quick = time.process_time() - started
    return found, asked, quick


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=2500)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    of, algebra = pairs(given.references), Algebra()
    started = time.perf_counter()
    base, asked, quick = await verdicts(of, algebra)
    each = (time.perf_counter() - started) / max(asked, 1)
    known = [(verdict, wanted) for verdict, (_, _, wanted) in zip(base, of, strict=True) if wanted is not None]
    right = sum(verdict == wanted for verdict, wanted in known)
    print(f"{len(of)} pairs, {right} of {len(known)} as wanted; {asked} by algebra, {1000 * each:.1f} ms each;")
    print(f"the rest {1e6 * quick / len(of):.0f} us a pair")
    rows = []
    for name, off in rules().items():
        with off():
            found, more, took = await verdicts(of, algebra)
        changed = [pair for pair, a, b in zip(of, base, found, strict=True) if a != b]
        worse = sum(a == w and a != b for (_, _, w), a, b in zip(of, base, found, strict=True) if w is not None)
        rows.append({"rule": name, "changed": len(changed), "worse": worse, "to_algebra": more - asked,
                     "quick_us": round(1e6 * (took - quick) / len(of), 2), "examples": changed[:6]})  # fmt: skip
        print(f"{len(changed):6} changed ({worse} worse) {more - asked:+6} to algebra  {name[:90]}", flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    close_graders()


asyncio.run(main())
