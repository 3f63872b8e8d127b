"""Successive halving: all candidates on few problems, the better half on twice as many, and so on to the last round.

As in arXiv 2506.08669, with two differences. "No blueprint" is the control: it stays to the last round, whatever its
score. And no candidate is ever ranked by a problem that its author was shown: those are taken out of the pool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tandem.sufficiency.blueprint_card import NONE, Candidate, Score
from tandem.types import Problem


@dataclass(frozen=True, slots=True)
class TrialAnswer:
    right: bool
    text: str
    prompt_tokens: int
    completion_tokens: int
    tflops: float | None = None
    usd: float | None = None


TrialAnswers = Mapping[tuple[str, str], TrialAnswer]  # by candidate's name and problem's id
Judge = Callable[[Sequence[Candidate], Sequence[Problem]], Awaitable[TrialAnswers]]
Refine = Callable[[Candidate, Sequence[tuple[Problem, TrialAnswer]]], Awaitable[Candidate | None]]


@dataclass(slots=True)
class Found:
    """The ranking of the last round, best first, the scores of all rounds, and how each candidate went out."""

    ranking: list[Candidate] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    tried: list[Candidate] = field(default_factory=list)

    @property
    def chosen(self) -> Candidate:
        return self.ranking[0]

    @property
    def best_blueprint(self) -> Candidate:
        return next(candidate for candidate in self.ranking if candidate.name != NONE)


async def search(
    candidates: Sequence[Candidate],
    pool: Sequence[Problem],
    sizes: Sequence[int],
    judge: Judge,
    refine: Refine,
    *,
    mistakes: int,
) -> Found:
    """Return what the search found over problems of the `pool`, `sizes` of them in each round, nested.

    After the first round `refine` is given the best blueprint with at most `mistakes` problems that it got wrong; the
    candidate that it returns joins, and those problems count no more. `candidates` have "no blueprint" and another one;
    the pool holds the last size and `mistakes` more.
    """
    found, live, left = Found(tried=list(candidates)), list(candidates), list(pool)
    for number, size in enumerate(sizes, start=1):
        problems = left[:size]
        outcomes = await judge(live, problems)
        scores = {c.name: score(c, f"round-{number}", problems, outcomes) for c in live}
        found.scores += scores.values()
        found.ranking = ranked(live, scores)
        if number == len(sizes):
            break
        live = survivors(found.ranking)
        if number == 1:
            best = found.best_blueprint
            wrong = [(p, outcomes[best.name, p.id]) for p in problems if not outcomes[best.name, p.id].right]
            if shown := wrong[:mistakes]:
                seen = {problem.id for problem, _ in shown}
                left = [problem for problem in left if problem.id not in seen]
                if (refined := await refine(best, shown)) is not None:
                    live.append(refined)
                    found.tried.append(refined)
    return found


def score(candidate: Candidate, part: str, problems: Sequence[Problem], outcomes: TrialAnswers) -> Score:
    own = [outcomes[candidate.name, problem.id] for problem in problems]
    return Score(
        candidate=candidate.name,
        part=part,
        n=len(own),
        right=sum(outcome.right for outcome in own),
        prompt_tokens=sum(outcome.prompt_tokens for outcome in own),
        completion_tokens=sum(outcome.completion_tokens for outcome in own),
    )


def ranked(candidates: Sequence[Candidate], scores: Mapping[str, Score]) -> list[Candidate]:
    """Return candidates, best first: by right answers, "no blueprint" before its equals, then by fewer tokens."""

    def key(candidate: Candidate) -> tuple[int, bool, int]:
        found = scores[candidate.name]
        return -found.right, candidate.name != NONE, found.prompt_tokens + found.completion_tokens

    return sorted(candidates, key=key)


def survivors(ranking: Sequence[Candidate]) -> list[Candidate]:
    """Return the better half of a ranking (rounded up, two at least) with "no blueprint" always in it."""
    keep = max(2, -(-len(ranking) // 2))
    others = [candidate for candidate in ranking if candidate.name != NONE][: keep - 1]
    return [candidate for candidate in ranking if candidate.name == NONE or candidate in others]
