"""The engine on fake models: its five faces agree, and it can be used from threads, from a running loop, and again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tandem import Effort, Solution, SolveOptions, Tandem, engine, solve
from tandem.errors import CapabilityError, EndpointError, TandemError, UsageError
from tandem.models.fake import FakeModel, Rule, Script
from tandem.types import AnswerDelta, Decision, Event, InsightDelta, Problem

QUESTION = "What is 17*23?"
LADDER = "none,low=10,high=40"


@pytest.fixture
def tandem() -> Iterator[Tandem]:
    # Thrifty: how far an eager mentor gets before it is stopped is a matter of time.
    with Tandem("fake", "fake", effort=LADDER, pace="thrifty") as engine:
        yield engine


def essence(solution: object) -> dict[str, Any]:
    """Return what of a solution does not depend on the clock."""
    assert isinstance(solution, Solution)
    fields = solution.model_dump(exclude={"seconds"})
    fields["ledger"] = [{**entry, "seconds": 0} for entry in fields["ledger"]["entries"]]
    return fields


async def test_every_face_gives_the_same_solution(tandem: Tandem) -> None:
    streamed = [event async for event in tandem.astream(QUESTION)]
    expected = essence(streamed[-1])
    assert expected["answer"] == "23" and expected["synthetic"]
    assert essence(await tandem.asolve(QUESTION)) == expected
    async for index, result in tandem.asolve_many([QUESTION]):
        assert (index, essence(result)) == (0, expected)


def test_every_sync_face_gives_the_same_solution(tandem: Tandem) -> None:
    expected = essence(tandem.solve(QUESTION))
    assert essence(list(tandem.stream(QUESTION))[-1]) == expected
    assert [essence(s) for s in tandem.solve_many([QUESTION, QUESTION])] == [expected, expected]
    assert essence(solve(QUESTION, mentor="fake", intern="fake", effort=LADDER, pace="thrifty")) == expected


def test_the_stream_shows_insight_decisions_and_the_answer_in_pieces(tandem: Tandem) -> None:
    events: list[Event] = list(tandem.stream(QUESTION))
    solution = events[-1]
    assert isinstance(solution, Solution)
    assert [e for e in events if isinstance(e, Decision)] == solution.trace
    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == solution.text
    assert any(isinstance(e, InsightDelta) for e in events) == bool(solution.insight)


def test_a_stream_that_is_left_stops_the_model_and_the_engine_goes_on() -> None:
    intern = FakeModel(Script(rules=(Rule(text="word " * 500),), token_seconds=0.001))
    with Tandem("fake", intern, strategy="intern-only") as tandem:
        stream = tandem.stream(QUESTION)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert len(intern.aborted) == 1
        assert tandem.solve(QUESTION).answered_by == "intern"


def test_errors_come_back_at_their_places() -> None:
    intern = FakeModel(Script(rules=(Rule(text="a b c", when="unlucky", fault="no luck", fault_after=2),)))
    with Tandem("fake", intern, strategy="intern-only") as tandem:
        good, failed, empty, last = tandem.solve_many(["What is 1+1?", "an unlucky one", " ", "What is 2+3?"])
    assert isinstance(good, Solution) and isinstance(last, Solution) and (good.answer, last.answer) == ("1", "3")
    assert isinstance(failed, EndpointError) and str(failed) == "no luck"
    assert failed.ledger is not None and failed.ledger.intern_tokens == 2  # what was paid is kept
    assert isinstance(empty, UsageError) and "empty" in str(empty)


def test_results_are_in_the_order_of_the_problems_whatever_ends_first() -> None:
    words = {0: 60, 1: 2, 2: 20}
    rules = tuple(Rule(text="so " * n + f"\\boxed{{{i}}}", when=f"problem {i}") for i, n in words.items())
    intern = FakeModel(Script(rules=rules, token_seconds=0.002))
    with Tandem("fake", intern, strategy="intern-only") as tandem:
        results = tandem.solve_many([Problem.from_text(f"problem {i}", task="math") for i in words])
        assert tandem.solve_many([]) == []
    assert [r.answer for r in results if isinstance(r, Solution)] == ["0", "1", "2"]


async def test_at_most_concurrency_problems_run_at_once() -> None:
    running = most = 0

    class Counting(FakeModel):
        async def stream(self, request: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            async for delta in super().stream(request):
                yield delta
            running -= 1

    intern = Counting(Script(token_seconds=0.001))
    async with Tandem("fake", intern, strategy="intern-only") as tandem:
        ended = [i async for i, _ in tandem.asolve_many([f"What is {i}+1?" for i in range(9)], concurrency=3)]
    assert sorted(ended) == list(range(9)) and most == 3


def test_two_threads_share_one_engine(tandem: Tandem) -> None:
    together = Barrier(2)

    def one(number: int) -> list[str | None]:
        together.wait(timeout=60)
        return [tandem.solve(f"What is 1+{number}{i}?").answer for i in range(3)]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, (4, 5)))
    assert answers == [["40", "41", "42"], ["50", "51", "52"]]


async def test_the_sync_face_works_beside_a_running_loop_and_after_the_async_one(tandem: Tandem) -> None:
    expected = essence(await tandem.asolve(QUESTION))
    assert essence(tandem.solve(QUESTION)) == expected
    assert essence(await tandem.asolve(QUESTION)) == expected


def test_an_engine_can_be_used_after_it_was_closed() -> None:
    tandem = Tandem("fake", "fake", strategy="intern-only")
    with tandem:
        first = tandem.solve(QUESTION)
    assert essence(tandem.solve(QUESTION)) == essence(first)
    tandem.close()
    tandem.close()  # nothing is open any more


def test_intern_only_neither_prepares_nor_calls_the_mentor() -> None:
    class Untouchable(FakeModel):
        async def probe(self) -> Any:
            raise AssertionError("the mentor was prepared")

    mentor = Untouchable()
    with Tandem(mentor, "fake", strategy="intern-only") as tandem:
        solution = tandem.solve(QUESTION)
        assert tandem.plan().classifier_match is None
    assert mentor.calls == [] and solution.ledger.select("mentor") == []
    assert (solution.level, solution.answered_by, solution.classifier) == ("none", "intern", None)


def test_intern_only_needs_no_key_of_the_mentor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert solve(QUESTION, mentor="gpt-4o", intern="fake", strategy="intern-only").answer == "23"


def test_mentor_only_leaves_the_intern_alone() -> None:
    intern = FakeModel()
    with Tandem("fake", intern, strategy="mentor-only") as tandem:
        solution = tandem.solve(QUESTION)
    assert intern.calls == [] and (solution.level, solution.answered_by) == ("answer", "mentor")


def test_another_pair_is_called_uncalibrated(tandem: Tandem) -> None:
    solution = tandem.solve(QUESTION)
    match = tandem.plan().classifier_match
    assert match is not None and match["id"] == solution.classifier
    assert match["match"].startswith("uncalibrated: another mentor, intern")
    assert not any(decision.calibrated for decision in solution.trace)


def test_an_intern_without_logprobs_is_refused_before_the_first_problem() -> None:
    with Tandem("fake", FakeModel(Script(logprobs=False))) as tandem, pytest.raises(CapabilityError, match="none"):
        tandem.solve_many([QUESTION, QUESTION])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 3.0}, "temperature: .* less than or equal to 2, not 3.0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"pace": "brisk"}, "pace: .*'thrifty', not 'brisk'"),
        ({"draft_tokens": 0}, "draft_tokens"),
        ({"intern_max_tokens": 0}, "intern_max_tokens"),
        ({"effort": ""}, "unknown effort level"),
        ({"strategy": "fixed"}, "takes one level"),
        ({"classifier": "nobody"}, "unknown classifier 'nobody'"),
        ({"mentor_parameters": 1e9, "mentor": FakeModel()}, "the mentor is a model already"),
    ],
)
def test_bad_options_are_refused_at_once_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Tandem(**({"mentor": "fake", "intern": "fake"} | options))


def test_a_solution_reads_well(tandem: Tandem) -> None:
    text = str(tandem.solve(QUESTION))
    lines = text.splitlines()
    assert lines[0] == "answer: 23"
    assert lines[1].startswith("by the intern at level ") and "none (" in lines[1]
    assert "mentor " in text and "TFLOPs" in text and "$" not in text
    assert lines[-1] == "synthetic: a fake model wrote this"


def test_a_run_is_described_without_the_models(tandem: Tandem) -> None:
    described = tandem.plan().describe()
    assert described["ladder"] == LADDER and described["strategy"] == "tandem"
    assert described["mentor"]["name"] == "fake" and described["settings"]["pace"] == "thrifty"


def test_the_public_names() -> None:
    assert str(Effort(name="low", tokens=40)) == "low=40"
    assert issubclass(UsageError, TandemError)


@pytest.mark.parametrize("rest", ["", "; s = t.stream('What is 2+2?'); next(s)"])
def test_a_program_that_closes_nothing_ends(rest: str) -> None:
    program = f"from tandem import Tandem; t = Tandem('fake', 'fake'); print(t.solve('What is 17*23?').answer){rest}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "23\n", "")


async def test_options_hold_for_one_call() -> None:
    mentor, intern = FakeModel(name="m"), FakeModel(name="i")
    tandem = Tandem(mentor, intern, effort=LADDER)
    cut = SolveOptions(strategy="mentor-only", mentor_max_tokens=3)
    first, second, third = [await tandem.asolve(QUESTION, options=options) for options in (None, cut, None)]
    assert first.strategy == third.strategy == "tandem" and second.strategy == "mentor-only"
    assert essence(first) == essence(third)
    assert second.ledger.entries[0].usage.completion == 3 and tandem.settings.mentor_max_tokens == 4096
    wide = tandem.plan(SolveOptions(effort="none,low=5,high=20"))
    assert [level.tokens for level in wide.ladder] == [0, 5, 20] and wide.mentor is tandem.mentor is mentor
    with pytest.raises(UsageError, match="unknown effort level 'lwo'"):
        tandem.plan(SolveOptions(effort="none,lwo"))
    with pytest.raises(UsageError, match=r"mentor_max_tokens: .*not 0"):
        await tandem.asolve(QUESTION, options=SolveOptions(mentor_max_tokens=0))


def test_every_option_is_the_engine_s_own_if_none_is_given() -> None:
    how: dict[str, Any] = {
        **{"strategy": "fixed:low=7", "effort": "none,low=7", "pace": "eager", "draft_tokens": 9},
        **{"temperature": 0.5, "top_p": 0.7, "seed": 3, "mentor_max_tokens": 11, "intern_max_tokens": 12},
    }
    own = Tandem("fake", "fake", **how).plan()
    assert Tandem("fake", "fake", **how).plan(SolveOptions()).describe() == own.describe()
    assert Tandem("fake", "fake").plan(SolveOptions(**how)).describe() == own.describe()
    for name, value in how.items():  # each by itself is heard
        alone = Tandem("fake", "fake").plan(SolveOptions(**{name: value}))
        assert alone.describe() == Tandem("fake", "fake", **{name: value}).plan().describe()


async def test_options_probe_each_model_once_and_read_the_classifier_once(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[str] = []
    mentor, intern = FakeModel(name="m"), FakeModel(name="i")
    for model in (mentor, intern):
        own = model.probe

        async def probe(model: FakeModel = model, own: Any = own) -> Any:
            probed.append(model.spec.name)
            return await own()

        monkeypatch.setattr(model, "probe", probe)
    read: list[Path] = []
    load = engine.load_classifier

    def reading(folder: Path) -> Any:
        read.append(folder)
        return load(folder)

    monkeypatch.setattr(engine, "load_classifier", reading)
    tandem = Tandem(mentor, intern, effort=LADDER)
    wishes = [None, *(SolveOptions(intern_max_tokens=n) for n in range(5, 9))]
    await asyncio.gather(*(tandem.asolve(QUESTION, options=options) for options in wishes))
    assert sorted(probed) == ["i", "m"] and len(read) == 1


async def test_calls_used_alike_share_what_an_uncalibrated_policy_saw() -> None:
    tandem = Tandem(FakeModel(), FakeModel(), effort=LADDER)
    for n in range(3):
        await tandem.asolve(QUESTION, options=SolveOptions(intern_max_tokens=50 + n))
    await tandem.asolve(QUESTION, options=SolveOptions(temperature=0.5))  # another use, of which it learns nothing
    policy = tandem._policy(tandem.plan(), "math")
    assert policy is not None and not policy.calibrated and len(policy._seen["none"]) == 3


async def test_policies_of_many_wishes_are_not_kept_for_ever() -> None:
    tandem = Tandem(FakeModel(), FakeModel(), effort=LADDER)
    await tandem.prepare()
    policies = [tandem._policy(tandem.plan(SolveOptions(draft_tokens=tokens)), "math") for tokens in range(1, 300)]
    again = [tandem._policy(tandem.plan(SolveOptions(draft_tokens=tokens)), "math") for tokens in (299, 1)]
    assert again[0] is policies[-1] and again[1] is not policies[0]


@pytest.mark.slow
@pytest.mark.parametrize("pace", ["eager", "thrifty"])
async def test_calls_with_different_options_side_by_side_are_as_alone(pace: Any) -> None:
    def made() -> Tandem:
        script = Script(token_seconds=0.0002)
        return Tandem(FakeModel(script, name="m"), FakeModel(script, name="i"), effort=LADDER, pace=pace)

    wishes = [
        SolveOptions(),
        *(SolveOptions(strategy=name) for name in ("mentor-only", "intern-only", "fixed:low=7", "budget-forcing:9")),
        SolveOptions(effort="none,answer"),
        SolveOptions(effort="low=3,high=30", draft_tokens=5),
        SolveOptions(strategy="fixed:high=20", intern_max_tokens=6, temperature=0.7, seed=4),
        SolveOptions(strategy="cascade", mentor_max_tokens=12),
        SolveOptions(strategy="intern-only", intern_logprobs=True, top_p=0.4),
    ]
    asked = [(f"What is {n}+{n % 7}?", wishes[n % len(wishes)]) for n in range(50)]

    async def essences(tandem: Tandem, question: str, options: SolveOptions) -> tuple[list[Event], dict[str, Any]]:
        *events, solution = [event async for event in tandem.astream(question, options=options)]
        shown = [
            event for event in events if not isinstance(event, InsightDelta)
        ]  # where an eager mentor is cut is a matter of time
        return shown, essence(solution)

    together = made()
    await together.prepare()
    found = await asyncio.gather(*(essences(together, *one) for one in asked))
    for one, beside in zip(asked, found, strict=True):
        assert beside == await essences(made(), *one), one
