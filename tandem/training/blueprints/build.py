"""The whole job: problems are split, the mentor writes, the search chooses, the held-out problems report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from tandem.errors import TandemError, UsageError
from tandem.statistics.significance import mcnemar, paired_bootstrap
from tandem.sufficiency.blueprint_card import (
    HELD_OUT,
    NONE,
    BlueprintCard,
    Candidate,
    HeldOutDifference,
    Offline,
    Price,
    Text,
)
from tandem.sufficiency.classifier import short_hash
from tandem.training.blueprints.bench import Bench
from tandem.training.blueprints.candidates import (
    MIN_CANDIDATES,
    REFINED,
    STYLES,
    TEMPLATES,
    ask,
    ask_again,
    candidate,
    candidates,
    known_answer,
    tidy,
)
from tandem.training.blueprints.search import Found, TrialAnswer, TrialAnswers, score, search
from tandem.types import Message, Problem, TaskKind

MIN_HELD_OUT = 64


@dataclass(frozen=True, slots=True)
class BlueprintPlan:
    """How a search is made: candidates in the first round, its problems (doubled in each further one), and the rest.

    `examples` problems are solved by the mentor and shown to it, `mistakes` are shown when it refines; neither counts
    in a score. `blueprint_tokens` is the cap on what the mentor writes.
    """

    candidates: int = 10
    first: int = 8
    rounds: int = 3
    examples: int = 6
    mistakes: int = 4
    held_out: int = MIN_HELD_OUT
    blueprint_tokens: int = 320

    def check(self) -> None:
        """Raise UsageError for a plan that shows nothing."""
        most = 1 + len(STYLES) * len(TEMPLATES)
        if not MIN_CANDIDATES <= self.candidates <= most:
            raise UsageError(f"a search takes {MIN_CANDIDATES} to {most} candidates, not {self.candidates}")
        if self.held_out < MIN_HELD_OUT:
            raise UsageError(f"at least {MIN_HELD_OUT} problems must be held out, not {self.held_out}")

    @property
    def sizes(self) -> list[int]:
        return [self.first * 2**number for number in range(self.rounds)]

    @property
    def needed(self) -> int:
        return self.examples + self.mistakes + self.sizes[-1] + self.held_out

    @property
    def answers(self) -> int:
        """The intern's answers at most."""
        live, total, before = self.candidates, 0, 0
        for number, size in enumerate(self.sizes):
            # After the first round the problems shown are replaced, and the refined candidate starts from zero.
            total += live * (size - before) + ((live - 1) * self.mistakes + before if number == 1 else 0)
            live, before = max(2, -(-live // 2)) + (number == 0), size
        return total + 2 * self.held_out


@dataclass(frozen=True, slots=True)
class Parts:
    examples: list[Problem]
    pool: list[Problem]
    held_out: list[Problem]


def split(problems: Sequence[Problem], plan: BlueprintPlan) -> Parts:
    """Split problems in the order of a hash of their ids; a question that occurs twice counts once.

    Raises UsageError for too few of them, several kinds, or one without reference or tests.
    """
    plan.check()
    for problem in problems:
        if not known_answer(problem):
            raise UsageError(f"{problem.id} has neither a reference answer nor tests, so no answer to it can be graded")
    if len(kinds := {problem.task for problem in problems}) > 1:
        raise UsageError(f"a blueprint is for one kind of problem, these are {', '.join(sorted(kinds))}")
    alone = {problem.question: problem for problem in problems}.values()
    if len(alone) < plan.needed:
        raise UsageError(
            f"a build needs {plan.needed} different problems: {plan.examples} as examples, {plan.mistakes} as "
            f"mistakes, {plan.sizes[-1]} to search on and {plan.held_out} held out; there are {len(alone)}"
        )
    order = sorted(alone, key=lambda p: hashlib.sha256(f"blueprint:{p.id}".encode()).digest())
    used, end = order[: -plan.held_out], plan.examples
    return Parts(used[:end], used[end:], order[-plan.held_out :])


async def build(
    bench: Bench, problems: Sequence[Problem], plan: BlueprintPlan, *, dataset: str, command: str = "", **data: Any
) -> BlueprintCard:
    """Make the blueprint of a pair for the kind of `problems`. The models must be probed.

    Raises UsageError as `split` does, LimitReached when the time is up (the same call goes on with the answers that the
    bench's recorder kept), TandemError where a model fails or writes nothing of use.
    """
    parts = split(problems, plan)
    task = parts.pool[0].task
    bench.progress.total = plan.answers
    notes: list[str] = []
    bench.doing("the mentor solves the examples")
    solved = await bench.mentor_answers(parts.examples)
    examples = [(p, o.text if o.right else known_answer(p)) for p, o in zip(parts.examples, solved, strict=True)]
    bench.doing("the mentor writes blueprints")
    styles = {style: ask(style, task, examples) for style in STYLES}
    await _write(bench, plan, task, styles, parts.examples, notes)
    first = candidates(list(bench.texts), plan.candidates)
    if len(first) < MIN_CANDIDATES:
        raise TandemError(
            f"{bench.mentor.spec.name} wrote {len(bench.texts)} blueprints of use, too few for {MIN_CANDIDATES} "
            f"candidates: {'; '.join(notes)}"
        )

    async def refine(best: Candidate, wrong: Sequence[tuple[Problem, TrialAnswer]]) -> Candidate | None:
        bench.doing("the mentor refines the best blueprint")
        mistakes = [(problem, outcome.text) for problem, outcome in wrong]
        messages = ask_again(bench.texts[str(best.blueprint)].text, task, mistakes)
        shown = [*parts.examples, *(problem for problem, _ in wrong)]
        await _write(bench, plan, task, {REFINED: messages}, shown, notes)
        if REFINED not in bench.texts:
            return None
        bench.doing("searching")
        return candidate(REFINED, best.place, best.follow)

    bench.doing("searching")
    found = await search(first, parts.pool, plan.sizes, bench.judge, refine, mistakes=plan.mistakes)
    bench.doing("held-out problems")
    control, best = first[0], found.best_blueprint
    outcomes = await bench.judge([control, best], parts.held_out)
    return _card(bench, plan, parts, found, outcomes, solved, notes, dataset=dataset, command=command, data=data)


async def _write(
    bench: Bench,
    plan: BlueprintPlan,
    task: TaskKind,
    asked: Mapping[str, tuple[Message, ...]],
    shown: Sequence[Problem],
    notes: list[str],
) -> None:
    """Have the mentor write a blueprint for each of the names in `asked`; those that are of no use are noted."""
    requests = [Problem(id=f"blueprint-{name}", messages=messages, task=task) for name, messages in asked.items()]
    for name, call in zip(asked, await bench.write(requests, plan.blueprint_tokens), strict=True):
        text = tidy(call.text, shown, cut=call.finish_reason == "length")
        same = next((other for other, known in bench.texts.items() if known.text == text), None)
        if text and not same:
            bench.texts[name] = Text(text=text, tokens=bench.mentor.count(text))
        else:
            notes.append(
                f"{name}: " + (f"the same as {same}" if same else "nothing of use, or quotations of the examples")
            )


def _card(
    bench: Bench,
    plan: BlueprintPlan,
    parts: Parts,
    found: Found,
    outcomes: TrialAnswers,
    solved: Sequence[TrialAnswer],
    notes: list[str],
    *,
    dataset: str,
    command: str,
    data: dict[str, Any],
) -> BlueprintCard:
    control, best, chosen = found.tried[0], found.best_blueprint, found.chosen
    held = {c.name: score(c, HELD_OUT, parts.held_out, outcomes) for c in (control, best)}
    difference = compare(best, parts.held_out, outcomes)
    if chosen.name == NONE:
        notes.append("the search chose no blueprint: none was better than the plain prompt")
    if difference.value <= 0:
        notes.append(
            f"on the held-out problems the plain prompt was no worse than '{best.name}': "
            f"{held[NONE].right} and {held[best.name].right} of {difference.n} right"
        )
    used = {c.blueprint for c in found.tried}
    settings = bench.settings
    return BlueprintCard(
        mentor=bench.mentor.spec.name,
        intern=bench.intern.spec.name,
        task=parts.pool[0].task,
        dataset=dataset,
        chosen=chosen.name,
        blueprints={name: text for name, text in bench.texts.items() if name in used},
        candidates=tuple(found.tried),
        scores=(*found.scores, *held.values()),
        held_out=difference,
        offline=Offline(
            calls=len(bench.ledger.entries),
            mentor_tokens=bench.ledger.mentor_tokens,
            intern_tokens=bench.ledger.intern_tokens,
            spent=Price(tflops=bench.ledger.tflops, usd=bench.ledger.usd),
            mentor_problem=_per_problem(solved),
            intern_problem=_per_problem([outcomes[chosen.name, p.id] for p in parts.held_out]),
        ),
        data=data
        | {
            "problems": {
                "examples": len(parts.examples),
                "search": plan.sizes[-1] + plan.mistakes,
                "held_out": len(parts.held_out),
            },
            "seen": sorted(short_hash(p.id) for p in (*parts.examples, *parts.pool[: plan.sizes[-1] + plan.mistakes])),
            "held_out": sorted(short_hash(p.id) for p in parts.held_out),
        },
        settings={
            "rounds": plan.sizes,
            "blueprint_tokens": plan.blueprint_tokens,
            "mentor_max_tokens": settings.mentor_max_tokens,
            "intern_max_tokens": settings.intern_max_tokens,
            "sampling": settings.sampling_of("intern").model_dump(mode="json"),
        },
        notes=tuple(notes),
        command=command,
        created=datetime.now(UTC).date().isoformat(),
        synthetic=bench.mentor.spec.synthetic or bench.intern.spec.synthetic,
    )


def compare(best: Candidate, problems: Sequence[Problem], outcomes: TrialAnswers) -> HeldOutDifference:
    pairs = [(outcomes[best.name, p.id].right, outcomes[NONE, p.id].right) for p in problems]
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    interval = paired_bootstrap(won, lost, len(pairs))
    assert interval is not None  # at least 64 are held out
    return HeldOutDifference(candidate=best.name, n=len(pairs), won=won, lost=lost, ci95=interval, p=mcnemar(won, lost))


def _per_problem(outcomes: Sequence[TrialAnswer]) -> Price:
    tflops, usd = [o.tflops for o in outcomes], [o.usd for o in outcomes]
    return Price(tflops=_mean(tflops), usd=_mean(usd))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
