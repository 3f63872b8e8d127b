"""`tandem run` beside the plain case: estimates, limits, prices, the cache, code, problems without references."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import FAKES, Cli, dataset, script
from stub import Reply, Stub

from tandem import Tandem
from tandem.cli.options import UnitName
from tandem.costs import UNITS
from tandem.sufficiency.classifier import available, read_card

CODE = {
    "id": "c0",
    "problem": "Write a function `one()` that returns 1.",
    "task": "code",
    "tests": "assert one() == 1",
    "entry_point": "one",
}


def at(stub: Stub, name: str = "stub") -> tuple[str, ...]:
    return ("--mentor", name, "--mentor-endpoint", "http://api.example.com/v1", "--intern", "fake")


def test_an_estimate_asks_no_model_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 5)
    asked = ("run", "--mentor", "gpt-4o", "--intern", "fake", "--dataset", own, "--effort", "none,low=100,answer")
    outcome = cli(*asked, "--mentor-max-tokens", "1000", "--estimate", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0 and found["problems"] == 5 and found["likely"] is None
    assert found["at_most"]["mentor_tokens"] == 5 * 1100
    price = found["at_most"]["usd"]
    assert price > 5 * 1100 * 10 / 1e6  # the prompts cost something too
    assert not (tmp_path / "runs").exists()
    table = cli(*asked, "--estimate")
    assert table.code == 0 and "at most" in table.out and "unknown until tuned" in table.out
    assert "tandem tune measures it" in table.out and found["unit"] == "usd"


def test_an_estimate_counts_what_is_likely_by_how_far_the_pair_climbed(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 10)
    pair = ("--mentor", "qwen2.5-coder-1.5b", "--intern", "qwen2.5-coder-0.5b", "--dataset", own)
    prices = tmp_path / "prices.yaml"
    prices.write_text("qwen2.5-coder-1.5b: {input: 0, output: 1000000}\n")
    asked = ("run", *pair, "--prices", str(prices), "--estimate")
    card = read_card(next(iter(available().values())))
    mean = round(card.figures["anchors"]["mentor-only"]["mentor_tokens"])
    alone = json.loads(cli(*asked, "--strategy", "mentor-only", "--json").out)
    assert alone["unit"] == "usd" and alone["likely"]["mentor_tokens"] == 10 * mean
    assert alone["likely"]["usd"] == pytest.approx(10 * mean) and alone["likely"]["intern_tokens"] == 0
    assert alone["at_most"]["usd"] == pytest.approx(10 * 4096)
    point = Tandem("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", prices=prices).plan().for_kind("math").point
    assert point is not None
    first = point.ladder.partition(",")[0]
    stops = point.policy.stop_shares[first]
    climbed = json.loads(cli(*asked, "--effort", f"{first},answer", "--json").out)
    assert climbed["likely"]["usd"] == pytest.approx((1 - stops) * 10 * mean)  # own hardware is free beside a price
    assert climbed["likely"]["usd"] < climbed["at_most"]["usd"]
    assert json.loads(cli(*asked, "--strategy", "cascade", "--json").out)["likely"] is None


def test_the_hint_after_an_uncalibrated_run_is_a_command_with_the_users_own_options(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "my problems.jsonl", 80)
    prices = tmp_path / "prices.yaml"
    prices.write_text("fake: {input: 1, output: 2}\n")
    outcome = cli("run", *FAKES, "--dataset", own, "--prices", str(prices), "--limit", "2", "--out", "a")
    command = outcome.err.splitlines()[-1]
    words = shlex.split(command)
    assert words[:2] == ["tandem", "tune"]
    assert words[2:] == [*FAKES, "--prices", str(prices), "--dataset", own]
    tuned = cli(*words[1:], "--max-usd", "0.000001", "--yes")  # it is read as it is, and stops at the budget
    assert tuned.code != 0 and "max-usd" in tuned.err


def test_a_password_in_an_address_is_not_shown_in_the_hint(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path
) -> None:
    stub = serve(Stub(default=Reply(tokens=("ok",))))
    address = stub.url.replace("://", "://me:hidden@")
    own = dataset(tmp_path / "own.jsonl", 1)
    outcome = cli("run", "--mentor", "stub", "--mentor-endpoint", address, "--intern", "fake", "--dataset", own)
    shown = stub.url.replace("://", "://***@")
    assert f"--mentor-endpoint '{shown}'" in outcome.err and "hidden" not in outcome.out + outcome.err


def test_a_price_file_of_ones_own_is_used(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 2)
    prices = tmp_path / "prices.yaml"
    prices.write_text("fake: {input: 1000000, output: 2000000, date: 2026-11-22}\n")
    outcome = cli("run", *FAKES, "--strategy", "mentor-only", "--dataset", own, "--prices", str(prices), "--json")
    summary = json.loads(outcome.out)
    assert summary["usd"] > 2 * summary["mentor_tokens"] > 0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("gpt-4o: {input: 1, output: 2}", "names neither fake nor fake"),
        ("fake: {input: 1}", "fake.output is missing"),
        ("fake: {input: -1, output: 2}", "fake.input"),
        ("fake: 3", "fake: prices are fields"),
        ("- fake", "must name models"),
        ("fake: {input: [", "is not YAML"),
    ],
)
def test_a_bad_price_file_is_one_line(cli: Cli, tmp_path: Path, content: str, complaint: str) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(content)
    own = dataset(tmp_path / "own.jsonl", 1)
    outcome = cli("run", *FAKES, "--dataset", own, "--prices", str(prices))
    assert outcome.code == 2 and complaint in outcome.err and outcome.err.count("\n") == 1


def test_batch_prices_are_charged_and_shown_where_asked_for(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 2)
    (tmp_path / "prices.yaml").write_text("fake: {input: 10, output: 20, batch: 0.5}\n")
    asked = ("run", *FAKES, "--strategy", "mentor-only", "--dataset", own, "--json")
    priced = (*asked, "--prices", "prices.yaml")
    whole, half = (json.loads(cli(*priced, *more).out)["usd"] for more in ((), ("--batch-prices",)))
    assert half == pytest.approx(whole / 2) and half > 0
    outcome = cli(*asked, "--batch-prices")
    assert outcome.code == 2 and "no batch price is known for fake and fake" in outcome.err


def test_a_limit_in_dollars_needs_a_price(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 1)
    outcome = cli("run", *at(Stub()), "--dataset", own, "--max-usd", "1")
    assert outcome.code == 2 and "--prices FILE" in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_that_a_limit_stops_says_how_to_go_on(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 8)
    (tmp_path / "prices.yaml").write_text("fake: {input: 1, output: 10}\n")
    asked = ("run", *FAKES, "--strategy", "mentor-only", "--dataset", own, "--prices", "prices.yaml")
    asked += ("--mentor-max-tokens", "100", "--concurrency", "1", "--json")
    outcome = cli(*asked, "--out", "out", "--max-usd", "0.0015")
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert 0 < summary["n"] < 8 and summary["usd"] <= 0.0015 and "--resume out" in outcome.err
    outcome = cli(*asked, "--resume", "out", "--max-usd", "1")
    assert json.loads(outcome.out)["n"] == 8 and "stopped" not in outcome.err


def test_when_every_problem_fails_the_run_has_failed(cli: Cli, tmp_path: Path) -> None:
    broken = script(tmp_path / "broken.json", rules=[{"text": "a b", "fault": "no luck", "fault_after": 1}])
    own = dataset(tmp_path / "own.jsonl", 3)
    outcome = cli("run", "--mentor", "fake", "--intern", broken, "--strategy", "intern-only", "--dataset", own)
    assert outcome.code == 1 and "every problem failed" in outcome.err and "no luck" in outcome.err


def test_the_cache_serves_a_second_run(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stub = serve(Stub(Reply(tokens=("the answer is ", "\\boxed{", "1", "}"))))
    own = dataset(tmp_path / "own.jsonl", 3)
    pair = ("--mentor", "stub", "--mentor-endpoint", stub.url, "--intern", "fake", "--strategy", "mentor-only")
    seen = []
    for _ in range(2):
        assert cli("run", *pair, "--dataset", own, "--cache").code == 0
        seen.append(sum("What is" in chat.body["messages"][0]["content"] for chat in stub.chats))
    assert seen == [3, 3]
    assert list((tmp_path / "home" / "responses").rglob("*.json"))


def test_problems_without_references_are_answered_and_not_judged(cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "questions.csv"
    own.write_text("question\nWhat is 2+2?\nWhat is 3+3?\n")
    outcome = cli("run", *FAKES, "--dataset", str(own), "--out", "answers", "--json")
    summary = json.loads(outcome.out)
    assert (summary["n"], summary["accuracy"]) == (2, None)
    records = [json.loads(line) for line in (tmp_path / "answers" / "records.jsonl").read_text().splitlines()]
    assert all(record["answer"] and record["correct"] is None for record in records)


def test_code_is_run_only_when_that_is_allowed(cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "code.jsonl"
    own.write_text(json.dumps(CODE) + "\n")
    right = script(tmp_path / "coder.json", rules=[{"text": "```python\ndef one():\n    return 1\n```"}])
    asked = ("run", "--mentor", "fake", "--intern", right, "--strategy", "intern-only", "--dataset", str(own))
    refused = cli(*asked)
    assert refused.code == 2 and "--allow-code-execution" in refused.err and not (tmp_path / "runs").exists()
    assert json.loads(cli(*asked, "--no-grade", "--json").out)["accuracy"] is None
    assert json.loads(cli(*asked, "--allow-code-execution", "--json").out)["accuracy"] == 1.0


def test_another_run_is_refused_and_the_difference_named(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 3)
    asked = ("run", *FAKES, "--dataset", own)
    assert cli(*asked, "--out", "out").code == 0
    for changed, named in (
        (("--seed", "3"), "settings.sampling.seed"),
        (("--effort", "none,high"), "ladder"),
        (("--limit", "2"), "dataset.limit"),
        (("--temperature", "0.5"), "temperature"),
    ):
        outcome = cli(*asked, *changed, "--resume", "out")
        assert outcome.code == 2 and named in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize("wish", ["--max-usd=nan", "--max-minutes=inf", "--max-minutes=0", "--out=", "--resume="])
def test_wishes_that_make_no_sense(cli: Cli, tmp_path: Path, wish: str) -> None:
    outcome = cli("run", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 1), wish)
    assert outcome.code == 2 and wish.partition("=")[0] in outcome.err and outcome.err.count("\n") == 1


def test_a_run_with_some_failures_says_how_to_try_them_again(cli: Cli, tmp_path: Path) -> None:
    broken = script(tmp_path / "m.json", rules=[{"when": "is 1+0", "text": "a b", "fault": "no", "fault_after": 1}])
    own = dataset(tmp_path / "own.jsonl", 3)
    outcome = cli(
        "run", "--mentor", "fake", "--intern", broken, "--strategy", "intern-only", "--dataset", own, "--out", "o"
    )
    assert outcome.code == 0 and "1 failed. To try those again: the same command and --resume o" in outcome.err


@pytest.mark.parametrize("typed", ["tflops-published", "tflops_published", "TFLOPs-published"])
def test_a_unit_is_typed_with_dashes_or_underscores(typed: str) -> None:
    assert UnitName().convert(typed, None, None) == "tflops_published"


def test_the_help_on_units_names_them_all_and_an_unknown_one_is_one_line(cli: Cli) -> None:
    told = "".join(cli("sweep", "--help").out.split())  # lines break after a dash
    assert all(unit.replace("_", "-") in told for unit in UNITS)
    refused = cli("sweep", "somewhere", "--unit", "kilowatts")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert "'--unit'" in refused.err and "unknown unit 'kilowatts'" in refused.err
