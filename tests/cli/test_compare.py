"""`tandem compare` from the command line: what it prints and writes, how it goes on, and bad usage in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import FAKES, Cli, dataset, script
from scripted_pair import INTERN, MENTOR, MODELS, respond, write_problems
from serving import until
from stub import Reply, Stub

MORE = ("--strategies", "random-mix:0.5")
QUICK = ("--strategies", "fixed:low=10,budget-forcing:5,tandem")


@pytest.fixture
def sums(tmp_path: Path) -> str:
    return dataset(tmp_path / "sums.jsonl", 5)


def test_one_table_and_what_was_left_out(cli: Cli, tmp_path: Path, sums: str) -> None:
    mute = script(tmp_path / "mute.json", logprobs=False)
    pair = ("--mentor", "fake", "--intern", mute)
    done = cli("compare", *pair, "--dataset", sums, *QUICK, "--out", str(tmp_path / "out"))
    assert done.code == 0, done.err
    for name in ("mentor-only", "intern-only", "fixed:low=10", "tandem was skipped", "synthetic"):
        assert name in done.out
    assert "reads the intern's log-probabilities" in " ".join(done.out.split())
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    assert "tandem: " not in done.out  # it has no figures, so nothing is said of them
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["status"] for row in found["strategies"]] == ["finished"] * 4 + ["skipped"]
    assert all((tmp_path / "out" / row["folder"] / "summary.json").exists() for row in found["strategies"][:4])


def test_more_strategies_join_and_nothing_is_asked_again(cli: Cli, tmp_path: Path, sums: str) -> None:
    out = str(tmp_path / "out")
    first = cli("compare", *FAKES, "--dataset", sums, "--strategies", "intern-only", "--out", out, "--json")
    before = json.loads(first.out)
    again = cli("compare", *FAKES, "--dataset", sums, *QUICK, "--resume", out, "--json")
    after = json.loads(again.out)
    assert [row["name"] for row in before["strategies"]] == ["mentor-only", "intern-only"]
    assert after["strategies"][:2] == before["strategies"] and len(after["strategies"]) == 5
    fewer = json.loads(cli("compare", *FAKES, "--dataset", sums, "--resume", out, *MORE, "--json").out)
    names = [row["name"] for row in after["strategies"]]
    assert [row["name"] for row in fewer["strategies"]] == [*names[:2], "random-mix:0.5", *sorted(names[2:])]
    kept = {row["name"]: row for row in fewer["strategies"]}
    assert all(kept[row["name"]] == row for row in after["strategies"])
    refused = cli("compare", *FAKES, "--dataset", sums, "--resume", out, "--seed", "3", "--strategies", "intern-only")
    assert refused.code == 2 and "settings.sampling.seed" in refused.err


def test_finished_runs(cli: Cli, tmp_path: Path, sums: str) -> None:
    for strategy in ("mentor-only", "intern-only"):
        assert (
            cli("run", *FAKES, "--dataset", sums, "--strategy", strategy, "--out", str(tmp_path / strategy)).code == 0
        )
    runs = str(tmp_path / "mentor-only"), str(tmp_path / "intern-only")
    done = cli("compare", *runs, "--out", str(tmp_path / "out"), "--json")
    found = json.loads(done.out)
    assert [row["name"] for row in found["strategies"]] == ["mentor-only", "intern-only"] and found["n"] == 5
    assert found["unit"] == "tflops"
    assert cli("compare", *runs, "--out", str(tmp_path / "out")).code == 2  # there is one already
    other = cli("compare", *runs, "--out", str(tmp_path / "other"), "--unit", "mentor-tokens", "--json")
    assert json.loads(other.out)["unit"] == "mentor_tokens"
    refused = cli("compare", *runs, "--out", str(tmp_path / "third"), "--unit", "seconds")
    assert refused.code == 2 and refused.err.count("\n") == 1 and not (tmp_path / "third" / "compare.json").exists()
    assert "the cost in device seconds is not known of every run; take another --unit, such as tflops" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--mentor is missing"),
        (("--mentor", "fake", "--intern", "fake"), "--dataset is missing"),
        ((*FAKES, "--dataset", "starter", "--strategies", "tandm"), "Did you mean tandem"),
        ((*FAKES, "--dataset", "starter", "--strategies", "fixed:hi"), "hi"),
        ((*FAKES, "--dataset", "starter", "--strategies", ","), "no strategy is named"),
        ((*FAKES, "--dataset", "starter", "--out", "a", "--resume", "b"), "give one of them"),
        ((*FAKES, "--dataset", "starter", "--resume", "nowhere", *QUICK), "holds no comparison"),
        (("a", "b", *FAKES, "--out", "c"), "leave out the models"),
        (("a", "--out", "c"), "at least two"),
        (("a", "b"), "--out DIR"),
        (("a", "b", "--out", "c"), "holds no run"),
    ],
)
def test_bad_usage_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("compare", *arguments)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1, done.err


def test_problems_without_references_are_no_ground(cli: Cli, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"problem": "What is 1+1?"}\n')
    done = cli("compare", *FAKES, "--dataset", str(bare), "--out", str(tmp_path / "out"))
    assert done.code == 2 and "have no references" in done.err


def test_by_default_it_compares_what_a_user_would_choose_among(cli: Cli, tmp_path: Path, sums: str) -> None:
    done = cli("compare", *FAKES, "--dataset", sums, "--out", str(tmp_path / "out"))
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    names = [row["name"] for row in found["strategies"]]
    assert names == ["mentor-only", "intern-only", "tandem", "cascade", "route"]
    assert "On these 5 problems Tandem is " in done.out.splitlines()[-1] and "per 1,000 problems" in done.out
    assert found["verdict"]["unit"] == found["unit"] == "tflops"  # fakes have a size, and no price or profile
    assert found["verdict"]["sentence"] in (tmp_path / "out" / "report.html").read_text()
    advice = "tandem train COLLECTION --strategy cascade --out classifiers/mine"  # it is another pair's
    assert f"its predictor was trained for another pair; one of its own: {advice}" in done.out


def test_an_estimate_asks_nobody_and_counts_what_is_shared_once(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path, sums: str
) -> None:
    stub = serve(Stub(respond=respond, models=MODELS))
    pair = ("--mentor", "gpt-4o", "--mentor-endpoint", stub.url, "--intern", INTERN, "--intern-endpoint", stub.url)
    names = "tandem,cascade,route:nowhere,random-mix:0.3,budget-forcing:50"
    asked = ("compare", *pair, "--dataset", sums, "--strategies", names, "--estimate")
    done = cli(*asked, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rows = {row["name"]: row for row in found["strategies"]}
    assert "nowhere holds no predictor for 'route'; make one with: tandem train" in rows["route:nowhere"]["reason"]
    most = {name: row["at_most"] for name, row in rows.items() if "at_most" in row}
    assert found["unit"] == "usd" and most["intern-only"]["usd"] == 0.0 < most["mentor-only"]["usd"]
    # The mentor's whole answer serves cascade, mix and the first 50 tokens; the intern's serves tandem's first draft.
    alone = most["mentor-only"]["mentor_tokens"]
    cues = most["budget-forcing:50"]["mentor_tokens"] - 5 * 50
    assert found["at_most"]["mentor_tokens"] == alone + most["tandem"]["mentor_tokens"] + cues
    assert found["at_most"]["usd"] < sum(one["usd"] for one in most.values())
    assert all(found["at_most"][name] >= one[name] for one in most.values() for name in ("mentor_tokens", "usd"))
    assert not stub.chats and not (tmp_path / "runs").exists()
    told = cli(*asked)
    assert "Calls on own hardware count US$ 0" in told.out
    assert "all, shared calls once" in told.out and "US$" in told.out and "route:nowhere would be skipped" in told.out


def native(body: dict[str, Any]) -> Reply:
    """The scripted pair's answers, with gpt-4o in place of the mentor."""
    return respond(body | {"model": MENTOR if body["model"] == "gpt-4o" else INTERN})


def test_an_api_mentor_with_tools_is_compared_by_every_method_in_us_dollars(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_MENTOR_API_KEY", "k")
    stub = serve(Stub(respond=native, models=[{"id": "gpt-4o"}, {"id": INTERN}]))
    own = str(write_problems(tmp_path / "own.jsonl", 6))
    pair = ("--mentor", "gpt-4o", "--mentor-endpoint", stub.url, "--intern", INTERN, "--intern-endpoint", stub.url)
    names = "tandem,delegate,spec-reason,random-mix:0.5"
    done = cli("compare", *pair, "--dataset", own, "--strategies", names, "--out", str(tmp_path / "out"))
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["status"] for row in found["strategies"]] == ["finished"] * 6
    assert json.loads((tmp_path / "out" / "delegate" / "run.json").read_text())["run"]["way"] == "native"
    rows = {row["name"]: row for row in found["strategies"]}
    assert (found["format"], found["unit"], rows["intern-only"]["cost"]["usd"]) == (2, "usd", 0.0)
    # A seen prompt costs US$ 2.50, a written token 10 per million, as the catalog has it of gpt-4o.
    mentor = [chat for chat in stub.chats if chat.body["model"] == "gpt-4o"]
    records = [json.loads(line) for line in (tmp_path / "out" / "mentor-only" / "records.jsonl").open()]
    usage = [entry["usage"] for record in records for entry in record["ledger"]["entries"]]
    bill = sum(2.5 * one["prompt"] + 10 * one["completion"] for one in usage) / 1e6
    assert mentor and rows["mentor-only"]["cost"]["usd"] == pytest.approx(bill / 6)
    assert rows["tandem"]["gain_over_chord"]["usd"]["value"] is not None
    assert rows["tandem"]["cost"]["seconds"] is None and rows["tandem"]["cost"]["latency"] > 0
    assert "Calls on own hardware count US$ 0 (--usd-per-device-hour gives them a price)" in done.out
    assert "It costs US$ " in done.out.splitlines()[-1]


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON in a file, or in each of its lines."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else None
    for row in rows if rows is not None else [content := json.loads(path.read_text())]:
        row.pop("crc32", None)
        change(row)
    text = json.dumps(content) if rows is None else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text)


def test_what_cannot_be_compared_is_left_out_by_name_and_the_rest_is_reported(
    cli: Cli, tmp_path: Path, sums: str
) -> None:
    out = tmp_path / "out"
    names = ["random-mix:0.2", "random-mix:0.4", "random-mix:0.6", "random-mix:0.8", "fixed:low=5", "fixed:low=7"]
    asked = ("compare", *FAKES, "--dataset", sums)
    assert cli(*asked, "--strategies", ",".join(names), "--out", str(out)).code == 0
    changed(out / "random-mix-0.2" / "run.json", lambda r: r["run"]["settings"]["sampling"].update(seed=5))
    changed(out / "random-mix-0.4" / "run.json", lambda r: r["run"]["mentor"].update(name="gpt-9"))
    changed(out / "random-mix-0.6" / "records.jsonl", lambda r: r.update(reference="x"))
    changed(out / "random-mix-0.8" / "records.jsonl", lambda r: r.update(grader="exact"))
    changed(out / "fixed-low=5" / "records.jsonl", lambda r: r.update(error="no luck", correct=False))
    changed(out / "fixed-low=7" / "records.jsonl", lambda r: r.update(trace=7))
    (out / "compare.json").unlink()  # as after a kill: what was run is found by its folders
    done = cli(*asked, "--strategies", "budget-forcing:5", "--resume", str(out))
    assert done.code == 0, done.err
    found = json.loads((out / "compare.json").read_text())
    rows = {row["name"]: row for row in found["strategies"]}
    assert {name for name, row in rows.items() if row["status"] == "finished"} == {
        *("mentor-only", "intern-only", "budget-forcing:5")
    }
    reasons = {name: rows[name]["reason"] for name in names}
    assert "settings.sampling.seed" in reasons["random-mix:0.2"] and "mentor.name" in reasons["random-mix:0.4"]
    assert "graded by another reference" in reasons["random-mix:0.6"]
    assert "graded by another grader" in reasons["random-mix:0.8"]
    assert reasons["fixed:low=5"] == "every problem failed; the first error: no luck"
    assert "cannot be counted" in reasons["fixed:low=7"]
    page = (out / "report.html").read_text()
    for name, reason in reasons.items():
        assert f"{name} was skipped: {reason}" in done.out and reason.replace("'", "\\u0027")[:20] in page
    assert "Costs are means" in done.out and all(row["gain_over_chord"] for row in rows.values() if not row["reason"])


def test_it_fails_only_where_nothing_can_be_compared(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path, sums: str
) -> None:
    down = {INTERN}

    def power(body: dict[str, Any]) -> Reply:
        asked = body["messages"][0]["content"]
        return Reply(status=400, error="the power went") if body["model"] in down and "+0" in asked else respond(body)

    stub = serve(Stub(respond=power, models=MODELS))
    pair = ("--mentor", MENTOR, "--mentor-endpoint", stub.url, "--intern", INTERN, "--intern-endpoint", stub.url)
    done = cli("compare", *pair, "--dataset", sums, *QUICK, "--out", str(tmp_path / "out"))
    assert done.code == 0, done.err
    assert "intern-only was skipped: every problem failed" in done.out and "the power went" in done.out
    down.add(MENTOR)
    done = cli("compare", *pair, "--dataset", sums, *QUICK, "--out", str(tmp_path / "other"))
    assert done.code == 1 and "nothing can be compared: mentor-only: every problem failed" in done.err


def test_another_ladder_does_not_take_the_anchors_from_a_comparison(cli: Cli, tmp_path: Path, sums: str) -> None:
    out = str(tmp_path / "out")
    asked = ("compare", *FAKES, "--dataset", sums)
    assert cli(*asked, "--strategies", "tandem", "--out", out).code == 0
    done = cli(*asked, "--strategies", "tandem,fixed:low=3", "--effort", "none,low=3", "--resume", out, "--json")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(done.out)["strategies"]}
    assert [row["status"] for row in rows.values()] == ["finished"] * 4
    assert "as it was run before, which differs in ladder" in rows["tandem"]["notes"][0]
    assert rows["fixed:low=3"]["notes"] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_killed_comparison_had_stays_when_it_goes_on_with_others(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path
) -> None:
    stub = serve(Stub(respond=partial(respond, token_delay=0.01), models=MODELS))
    own, out = str(write_problems(tmp_path / "own.jsonl", 40)), tmp_path / "out"
    pair = ("--mentor", MENTOR, "--mentor-endpoint", stub.url, "--intern", INTERN, "--intern-endpoint", stub.url)
    asked = ("compare", *pair, "--dataset", own, "--concurrency", "4")
    first = (*asked, "--strategies", "fixed:low=5,random-mix:0.5", "--parallel", "1", "--out", str(out))
    process = subprocess.Popen((sys.executable, "-m", "tandem", *first), stderr=subprocess.PIPE)
    records = out / "fixed-low=5" / "records.jsonl"
    until(lambda: records.exists() and records.read_bytes().count(b"\n") > 4, seconds=120)
    process.kill()
    process.communicate()
    assert not (out / "compare.json").exists()
    had = {line["problem"] for line in map(json.loads, records.read_text().splitlines()[:-1])}
    far = cli("report", str(out), "--json")  # what is there can be seen without going on
    assert far.code == 0 and "did not end" in far.err and (out / "report.html").exists()
    assert {row["name"] for row in json.loads(far.out)["strategies"]} == {"mentor-only", "intern-only", "fixed:low=5"}
    done = cli(*asked, "--strategies", "budget-forcing:5", "--resume", str(out), "--json")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(done.out)["strategies"]}
    assert list(rows)[:4] == ["mentor-only", "intern-only", "budget-forcing:5", "fixed:low=5"]
    assert rows["fixed:low=5"]["status"] == "partial" and len(had) <= rows["fixed:low=5"]["n"] < 40
    assert rows["mentor-only"]["status"] == rows["intern-only"]["status"] == "finished"
    before = len(stub.chats)
    whole = json.loads(cli(*asked, "--strategies", "fixed:low=5", "--resume", str(out), "--json").out)
    rows = {row["name"]: row for row in whole["strategies"]}
    assert rows["fixed:low=5"]["n"] == 40 and rows["budget-forcing:5"]["status"] == "finished"
    assert len(stub.chats) - before < 2 * 40  # what was done is not asked again
