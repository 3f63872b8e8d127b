"""best-route on fake models: which way is taken, what each sample is asked with, and what is charged."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from tandem.engine import Tandem
from tandem.errors import CapabilityError, EndpointError, TandemError, UsageError
from tandem.insight import answer_messages
from tandem.ledger import Ledger
from tandem.models.base import Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.strategies import make_strategy
from tandem.strategies.best_route import sampled
from tandem.sufficiency.predictor import Head, Predictor
from tandem.types import AnswerDelta, Decision, Problem, Sampling, Solution

PROBLEM = Problem.from_text("What is 17*23?", task="math", reference="391")
ANSWERS = ["\\boxed{1}", "\\boxed{2} or so", "\\boxed{391} I say", "so \\boxed{391}", "thus \\boxed{391} it is"]


def head(p: float) -> Head:
    return Head(
        kind="probability",
        features=("log_question_tokens",),
        mean=(0.0,),
        scale=(1.0,),
        weights=(0.0,),
        intercept=math.log(p / (1 - p)),
    )


def predictor(folder: Path, *match: float, most: int | None = None, threshold: float = 0.5) -> str:
    """Write a predictor whose match with n samples is always `match[n - 1]`, and return its folder."""
    heads = {f"match-{n}": head(p) for n, p in enumerate(match, start=1)}
    heads |= {f"right-{n}": head(p / 2) for n, p in enumerate(match, start=1)}
    settings = {"threshold": threshold, "most": float(most or len(match))}
    made = Predictor(strategy="best-route", mentor="big", intern="small", heads=heads, settings=settings)
    return str(made.save(folder).parent.parent)


def pair(script: Script | None = None) -> tuple[FakeModel, FakeModel]:
    """Return a mentor, and an intern whose samples are ANSWERS by their seeds."""
    big, small = FakeModel(name="big"), FakeModel(script, name="small", parameters=1e8)
    big.answer = lambda request: "I know: \\boxed{391}"
    small.answer = lambda request: ANSWERS[request.sampling.seed or 0]
    return big, small


def solve(strategy: str, big: FakeModel, small: FakeModel, **options: Any) -> tuple[Solution, list[Any]]:
    with Tandem(big, small, strategy=strategy, **options) as tandem:
        events = list(tandem.stream(PROBLEM))
    assert isinstance(events[-1], Solution)
    return events[-1], events


def booked(solution: Solution) -> list[tuple[str, str, int]]:
    return [(e.role, e.purpose, e.usage.completion) for e in solution.ledger]


@pytest.mark.parametrize(
    ("match", "level", "calls"),
    [
        ((0.9, 0.9, 0.9), "none", 1),
        ((0.4, 0.4, 0.6), "best-of-3", 3),
        ((0.4, 0.6, 0.3), "best-of-2", 2),
        ((0.4, 0.4, 0.4), "answer", 0),
    ],
)
def test_the_cheapest_that_passes_is_taken_else_the_mentor(
    tmp_path: Path, match: tuple[float, ...], level: str, calls: int
) -> None:
    big, small = pair()
    solution, _ = solve(f"best-route:{predictor(tmp_path, *match)}", big, small)
    assert solution.level == level and solution.answered_by == ("mentor" if level == "answer" else "intern")
    assert len(big.calls) == (level == "answer")
    assert len(small.calls) == calls


def test_one_sample_is_asked_for_as_intern_only_does(tmp_path: Path) -> None:
    folder = predictor(tmp_path, 0.9)
    for options in ({}, {"temperature": 0.5, "seed": 3}):
        asked: list[Request] = []
        for strategy in (f"best-route:{folder}", "intern-only"):
            big, small = pair()
            solve(strategy, big, small, **options)
            asked += small.calls
        assert asked[0] == asked[1] and len(asked) == 2


def test_samples_are_drawn_warm_with_seeds_of_their_own(tmp_path: Path) -> None:
    big, small = pair()
    small.answer = lambda request: "\\boxed{1}"
    solve(f"best-route:{predictor(tmp_path, 0.1, 0.1, 0.1, 0.1, 0.9)}", big, small, seed=7)
    five = small.calls.copy()
    assert {(c.sampling.temperature, c.sampling.top_p) for c in five} == {(0.7, 0.95)}
    assert {c.messages for c in five} == {answer_messages(PROBLEM)} and all(c.top_logprobs for c in five)
    assert len({c.sampling.seed for c in five}) == 5
    small.calls.clear()
    solve(f"best-route:{predictor(tmp_path, 0.1, 0.9)}", big, small, seed=7)
    assert small.calls == five[:2]  # the first of more are the same requests
    small.calls.clear()
    solve(f"best-route:{predictor(tmp_path, 0.1, 0.9)}", big, small, seed=8)
    assert not {c.sampling.seed for c in small.calls} & {c.sampling.seed for c in five}


def test_a_runs_own_sampling_is_kept() -> None:
    own = sampled(Sampling(temperature=0.3, top_p=0.8, seed=1, stop=("x",)), 2)
    assert (own.temperature, own.top_p, own.stop) == (0.3, 0.8, ("x",))
    assert sampled(Sampling(temperature=0.3), 0).top_p == 0.95
    assert sampled(Sampling(seed=2**31), 4).seed in range(2**31)


def test_the_majority_is_taken_and_every_sample_is_charged(tmp_path: Path) -> None:
    big, small = pair()
    solution, events = solve(f"best-route:{predictor(tmp_path, 0.1, 0.1, 0.1, 0.1, 0.9)}", big, small)
    assert solution.answer == "391" and solution.text in ANSWERS[2:]
    answer = ("intern", "answer", len(solution.text.split()))
    assert sorted(booked(solution)) == sorted(
        [answer, *(("intern", "probe", len(a.split())) for a in ANSWERS if a != solution.text)]
    )
    assert solution.ledger.intern_tokens == sum(len(a.split()) for a in ANSWERS)
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution.text
    routed, picked = solution.trace
    assert [e for e in events if isinstance(e, Decision)] == [routed, picked]
    assert routed.sufficiency == pytest.approx(0.45) and routed.signals == {
        "match": pytest.approx(0.9),
        "match_from": 0.5,
    }
    assert "3 of 5 give this answer" in picked.reason


def test_no_more_are_drawn_than_the_predictor_allows(tmp_path: Path) -> None:
    solution, _ = solve(f"best-route:{predictor(tmp_path, 0.1, 0.1, 0.9, most=2)}", *pair())
    assert solution.level == "answer"
    assert solve(f"best-route:{predictor(tmp_path, 0.1, 0.1, 0.9)}:0.05", *pair())[0].level == "none"
    damaged = Path(predictor(tmp_path, 0.1, 0.9, most=2)) / "predictors/best-route.json"
    damaged.write_text(damaged.read_text().replace("match-2", "match-9"))
    assert solve(f"best-route:{tmp_path}", *pair())[0].level == "answer"


def test_samples_run_side_by_side_and_closing_ends_all(tmp_path: Path) -> None:
    big, small = pair(Script(token_seconds=30))
    ledger = Ledger()

    async def leave() -> None:
        async with Tandem(big, small, strategy=f"best-route:{predictor(tmp_path, 0.1, 0.1, 0.9)}") as tandem:

            async def read() -> None:
                async for _ in tandem.astream(PROBLEM, ledger=ledger):
                    pass

            task = asyncio.create_task(read())
            async with asyncio.timeout(60):
                while len(small.calls) < 3:  # noqa: ASYNC110 (a fake tells nobody)
                    await asyncio.sleep(0.01)
            assert len(small.calls) == 3 and not small.aborted
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(small.aborted) == 3

    asyncio.run(leave())
    assert [entry.purpose for entry in ledger] == ["probe"] * 3


def test_a_sample_that_fails_ends_the_others_and_all_are_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, small = pair(Script(token_seconds=0.05))
    rules = [Rule(text="\\boxed{1}"), Rule(text="a b c", fault="it is gone", fault_after=3), Rule(text="long " * 500)]
    monkeypatch.setattr(small, "_rule", lambda request: rules[request.sampling.seed])
    strategy = f"best-route:{predictor(tmp_path, 0.1, 0.1, 0.9)}"
    with Tandem(big, small, strategy=strategy) as tandem, pytest.raises(EndpointError, match="it is gone") as caught:
        tandem.solve(PROBLEM)
    assert caught.value.ledger is not None
    assert sorted((entry.purpose, entry.error or "") for entry in caught.value.ledger) == [
        ("probe", ""),
        ("probe", ""),
        ("probe", "it is gone"),
    ]
    assert len(small.aborted) == 2  # the one that failed, and the one that was still being written


def test_an_intern_without_log_probabilities_draws_no_samples(tmp_path: Path) -> None:
    big, small = pair(Script(logprobs=False))
    with pytest.raises(CapabilityError, match="log-probabilities"):
        solve(f"best-route:{predictor(tmp_path, 0.1, 0.9)}", big, small)
    assert solve(f"best-route:{predictor(tmp_path, 0.9)}", big, small)[0].level == "none"


def test_both_ways_are_planned(tmp_path: Path) -> None:
    strategy = f"best-route:{predictor(tmp_path, 0.1, 0.1, 0.9)}"
    with Tandem(*pair(), strategy=strategy, intern_max_tokens=9) as tandem:
        assert [(c.role, c.purpose) for c in tandem.plan().calls("math")] == [
            ("mentor", "answer"),
            ("intern", "answer"),
            ("intern", "probe"),
            ("intern", "probe"),
        ]
        assert {c.max_tokens for c in tandem.plan().calls("math") if c.role == "intern"} == {9}


def test_names(tmp_path: Path) -> None:
    strategy = make_strategy(f"best-route:{predictor(tmp_path, 0.9)}:0.3")
    assert strategy.bind("big", "small").startswith("best-route@big+small@")
    with pytest.raises(UsageError, match="holds no predictor"):
        make_strategy("best-route:nowhere").bind("big", "small")  # type: ignore[attr-defined]
    with pytest.raises(TandemError, match="does not fit"):
        Predictor(strategy="best-route", mentor="big", intern="small", heads={}, settings={"threshold": 0.5}).save(
            tmp_path
        )
        make_strategy(f"best-route:{tmp_path}").bind("big", "small")  # type: ignore[attr-defined]


def test_the_demo_pair_has_a_predictor() -> None:
    strategy = make_strategy("best-route")
    found = strategy.bind("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b")
    assert found.startswith("best-route@qwen2.5-coder-1.5b+qwen2.5-coder-0.5b@")
