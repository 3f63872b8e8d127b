"""An engine with a card of points by kind goes the way that the replay of each problem's point foretells."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pointed import MODELS, point, script, write_card
from test_replay import FROM_QUESTION, FULL, NAMES, cards, models, replayed

from tandem import Tandem
from tandem.collection.collector import Collector
from tandem.collection.plan import CollectionPlan
from tandem.collection.rows import Folder
from tandem.grading import grade
from tandem.ladder import format_ladder
from tandem.sufficiency.points import OperatingPoint
from tandem.training.fit import complete
from tandem.training.replay import Pair
from tandem.types import Problem

pytestmark = pytest.mark.slow

KINDS = ("math", "choice", "general")
LADDERS = [format_ladder(sub) for size in (2, 3, 4, 5, 6) for sub in combinations(FROM_QUESTION, size)]


@st.composite
def points(draw: st.DrawFn) -> dict[str, OperatingPoint]:
    """A point for some kinds, and one for all others; each has a ladder, a draft and a model of its own."""
    kinds = draw(st.lists(st.sampled_from(KINDS), unique=True))
    return {
        kind: point(draw(st.sampled_from(LADDERS)), model, draw(st.sampled_from([1, 4, 16, None])), draw(cards()))
        for kind, model in zip([*kinds, "all"], ["of-math", "of-code", "of-all", ""], strict=False)
    }


@settings(max_examples=20, deadline=None)
@given(
    points(),
    st.fixed_dictionaries({m: st.fixed_dictionaries({n: st.floats(0, 1) for n in NAMES}) for m in [*MODELS, ""]}),
)
def test_each_problem_goes_the_way_of_its_kinds_point(
    by_kind: dict[str, OperatingPoint], p: dict[str, dict[str, float]]
) -> None:
    problems = [Problem.from_text("What is 3 plus 4?", id=kind, reference="7", task=kind) for kind in KINDS]

    async def both(folder: Path) -> None:
        mentor, intern = models(25, "gpra")
        write_card(folder / "card", {"tflops": {"accuracy": by_kind}})
        engine = Tandem(mentor, intern, classifier=str(folder / "card"), pace="thrifty")
        collector = Collector(mentor, intern, CollectionPlan(ladder=FULL), folder)
        assert (await collector.collect(problems)).failed == 0
        rows = complete(list(Folder(folder, write=False).rows()), FROM_QUESTION)
        for problem in problems:
            own = by_kind.get(problem.task, by_kind["all"])
            solution = await engine.asolve(problem)
            ladder = engine.plan().for_kind(problem.task).ladder
            assert format_ladder(ladder) == own.ladder
            foretold = replayed(
                rows[problem.id], ladder, Pair(mentor.spec, intern.spec), own.draft_tokens, own.policy, p[own.model]
            )
            assert (foretold.level, foretold.mentor_tokens) == (solution.level, solution.ledger.mentor_tokens)
            assert foretold.correct == await grade(problem, solution.text)
            assert {d.kind for d in solution.trace} <= {problem.task if problem.task in by_kind else "all"}

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        script(patch, p)
        asyncio.run(both(Path(folder)))
