"""How tokens are drawn and where answers are cut: as asked for, else as a model's makers advise, for each role."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Cli, dataset
from hypothesis import given
from hypothesis import strategies as st
from stub import Stub
from thinking import INTERN, intern

from tandem import Tandem
from tandem.config import Settings, SolveOptions
from tandem.errors import UsageError
from tandem.models.catalog import find, spec_of
from tandem.spec import ModelSpec, Sampling

R1, PLAIN = spec_of(find("deepseek-7b")), ModelSpec(name="plain")
ADVISED = Sampling(temperature=0.6, top_p=0.95)


def test_each_role_has_the_advice_of_its_own_makers() -> None:
    settings = Settings.for_pair(PLAIN, R1, seed=3)
    assert settings.sampling_of("mentor") == Sampling(seed=3)
    assert settings.sampling_of("intern") == ADVISED.model_copy(update={"seed": 3})
    assert (settings.mentor_max_tokens, settings.intern_max_tokens) == (4096, 32768)
    other_way = Settings.for_pair(R1, PLAIN)
    assert (other_way.sampling_of("mentor"), other_way.sampling_of("intern")) == (ADVISED, Sampling())
    assert other_way.max_tokens("mentor") == 32768 and other_way.max_tokens("intern") == 4096


def test_what_is_asked_for_wins_and_holds_for_both() -> None:
    settings = Settings.for_pair(PLAIN, R1, temperature=1.0, intern_max_tokens=50)
    assert settings.sampling_of("mentor") == Sampling(temperature=1.0)
    assert settings.sampling_of("intern") == Sampling(temperature=1.0, top_p=0.95)
    assert settings.intern_max_tokens == 50
    assert Settings.for_pair(PLAIN, R1, top_p=0.5).sampling_of("intern") == Sampling(temperature=0.6, top_p=0.5)
    greedy = Settings.for_pair(PLAIN, R1, temperature=0.0)
    assert greedy.sampling_of("intern") == greedy.sampling_of("mentor") == Sampling() and greedy.intern_sampling is None
    with pytest.raises(UsageError, match="temperature"):
        Settings.for_pair(PLAIN, R1, temperature=3.0)


@given(st.floats(0.01, 2), st.floats(0.01, 1), st.integers(0, 9))
def test_a_calls_own_wishes_leave_the_rest_as_it_was(temperature: float, top_p: float, seed: int) -> None:
    settings = Settings.for_pair(PLAIN, R1)
    assert settings.changed(SolveOptions()) == settings
    changed = settings.changed(SolveOptions(temperature=temperature, seed=seed, stop=("x",)))
    assert changed.sampling_of("intern") == Sampling(temperature=temperature, top_p=0.95, seed=seed, stop=("x",))
    assert changed.sampling_of("mentor") == Sampling(temperature=temperature, seed=seed, stop=("x",))
    assert settings.changed(SolveOptions(top_p=top_p)).sampling_of("intern").top_p == top_p
    assert settings.changed(SolveOptions(temperature=0)).sampling_of("intern") == Sampling()


def test_a_classifier_of_greedy_drafts_is_not_calibrated_for_drawn_ones() -> None:
    engine = Tandem("fake", "deepseek-7b", intern_endpoint="http://127.0.0.1:1/v1")
    assert "temperature" in engine.plan().mismatch
    assert "temperature" not in engine.plan(SolveOptions(temperature=0.0)).mismatch


def command(stub: Stub, tmp_path: Path, *more: str) -> tuple[str, ...]:
    at = ("--mentor", "fake", "--intern", INTERN, "--intern-endpoint", stub.url)
    return (*at, "--dataset", dataset(tmp_path / "own.jsonl", 2), *more)


def asked(stub: Stub) -> set[tuple[float, float, int]]:
    chats = [seen.body for seen in stub.chats if seen.body.get("stream")]
    return {(body["temperature"], body["top_p"], body["max_tokens"]) for body in chats}


def test_a_run_uses_and_records_them(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stub = serve(intern())
    run = ("run", *command(stub, tmp_path, "--strategy", "intern-only"))
    assert cli(*run, "--out", "drawn").code == 0
    assert asked(stub) == {(0.6, 0.95, 32768)}
    settings = json.loads(Path("drawn/run.json").read_text())["run"]["settings"]
    assert settings["intern_sampling"]["temperature"] == 0.6 and settings["sampling"]["temperature"] == 0.0
    assert settings["intern_max_tokens"] == 32768
    assert cli(*run, "--resume", "drawn").code == 0
    other = cli(*run, "--resume", "drawn", "--temperature", "0")
    assert other.code == 2 and "intern_sampling" in other.err
    found = json.loads(cli(*run, "--estimate", "--json").out)
    assert found["at_most"]["intern_tokens"] == 2 * 32768


def test_an_older_run_goes_on_as_it_began(cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path) -> None:
    stub = serve(intern())
    run = ("run", *command(stub, tmp_path, "--strategy", "intern-only"))
    as_then = ("--temperature", "0", "--top-p", "1", "--mentor-max-tokens", "4096", "--intern-max-tokens", "4096")
    assert cli(*run, *as_then, "--out", "old").code == 0
    assert cli(*run, "--resume", "old").code == 2  # a run of today: the same options are to be given
    manifest = json.loads(Path("old/run.json").read_text())
    del manifest["advice"]  # no earlier version wrote it
    Path("old/run.json").write_text(json.dumps(manifest))
    records = Path("old/records.jsonl")
    records.write_text(records.read_text().splitlines(keepends=True)[0])
    stub.seen.clear()
    done = cli(*run, "--resume", "old", "--json")
    assert done.code == 0 and json.loads(done.out)["n"] == 2
    assert asked(stub) <= {(0.0, 1.0, 4096)}


def test_a_collection_has_a_cap_for_each_role_and_goes_on_as_it_began(
    cli: Cli, serve: Callable[[Stub], Stub], tmp_path: Path
) -> None:
    stub = serve(intern())
    collect = ("collect", *command(stub, tmp_path, "--effort", "none,low=5,answer", "--out", "rows"))
    estimate = cli(*collect, "--dry-run")
    assert "an answer is cut at 768 tokens of the mentor, 32,768 of the intern" in estimate.out
    assert json.loads(cli(*collect, "--dry-run", "--json").out)["at_most"]["intern_tokens"] == 4 * 32768
    done = cli(*collect)
    assert done.code == 0, done.err
    assert asked(stub) == {(0.6, 0.95, 32768)}
    path = Path("rows/collection.json")
    manifest = json.loads(path.read_text())
    assert manifest["sampling"]["temperature"] == 0.6 and manifest["mentor_sampling"]["temperature"] == 0.0
    assert (manifest["max_tokens"], manifest["mentor_max_tokens"]) == (32768, 768)
    assert cli(*collect).code == 0
    refused = cli(*collect, "--hints", "--intern-max-tokens", "99")
    assert refused.code == 2 and "max_tokens" in refused.err
    # As earlier versions wrote it: one sampling and one cap.
    manifest |= {"sampling": Sampling().model_dump(mode="json"), "max_tokens": 768}
    path.write_text(json.dumps({k: v for k, v in manifest.items() if not k.startswith("mentor_")}))
    stub.seen.clear()
    other = cli(*collect, "--hints", "--mentor-max-tokens", "99", "--intern-max-tokens", "768")
    assert other.code == 2 and "mentor_max_tokens" in other.err
    assert cli(*collect, "--hints").code == 0
    assert asked(stub) == {(0.0, 1.0, 768)}
