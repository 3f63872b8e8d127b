"""Speed profiles: kept by model, endpoint and load, found where the model runs, marked where they were not measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import Tandem
from tandem.costs import UnknownRatesError, known_units, pair_rates, rates
from tandem.errors import UsageError
from tandem.models import profiles
from tandem.models.profiles import KeptProfile, Measurement, find_profile, keep_profile, kept_profiles, read_profile
from tandem.spec import ModelSpec, Prices, SpeedProfile

SPEC = ModelSpec(name="m", parameters=7e9)
RATE = st.floats(1e-9, 10.0, allow_subnormal=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    return tmp_path


def kept(
    model: str = "m", endpoint: str = "vllm", concurrency: int = 8, date: str = "2026-11-30", written: float = 0.01
) -> KeptProfile:
    return KeptProfile(
        profile=SpeedProfile(
            model=model,
            endpoint=endpoint,
            uncached=0.001,
            cached=0.0,
            written=written,
            device="2 H100",
            devices=2,
            load=f"{concurrency} requests at once",
            concurrency=concurrency,
            prompt_tokens=512,
            completion_tokens=128,
            date=date,
        )
    )


@given(uncached=RATE, cached=RATE, written=RATE, concurrency=st.integers(1, 4096))
def test_what_is_kept_is_found_again(
    uncached: float, cached: float, written: float, concurrency: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cycle = Measurement(uncached=uncached, cached=cached, written=written, phases=({"seconds": 1.5},))
    profile = kept(concurrency=concurrency).profile.model_copy(update=dict(cycle) | {"phases": None})
    profile = SpeedProfile(**{name: value for name, value in dict(profile).items() if name != "phases"})
    whole = KeptProfile(profile=profile, cycles=(cycle,), command="tandem profile m")
    path = keep_profile(whole, tmp_path_factory.mktemp("kept") / "p.json")
    assert read_profile(str(path)) == profile
    assert (
        KeptProfile.model_validate({k: v for k, v in json.loads(path.read_text()).items() if k != "version"}) == whole
    )


def test_it_is_found_by_model_endpoint_and_nearest_load() -> None:
    for concurrency in (1, 8, 64):
        keep_profile(kept(concurrency=concurrency))
    keep_profile(kept(endpoint="in process", concurrency=1))
    keep_profile(kept(model="other", concurrency=16))
    found = {at: find_profile(SPEC, "vllm", at) for at in (1, 2, 7, 16, 200)}
    assert {at: its and its.concurrency for at, its in found.items()} == {1: 1, 2: 1, 7: 8, 16: 8, 200: 64}
    assert found[16] and found[16].note == ""
    assert found[200] and "another load" in found[200].note and "another load" in str(found[200])
    here = find_profile(SPEC, "in process", 16)
    assert here and (here.endpoint, here.concurrency) == ("in process", 1) and "another load" in here.note
    assert find_profile(SPEC, "gpu1:8000/v1", 8) is None
    anywhere = find_profile(SPEC)
    assert anywhere and anywhere.endpoint == "vllm"


def test_a_newer_one_takes_the_place_of_an_older_one_of_the_same_load() -> None:
    assert keep_profile(kept(written=0.01)) == keep_profile(kept(written=0.02))
    (only,) = kept_profiles("m")
    assert only.profile.written == 0.02


def test_one_s_own_goes_before_a_shipped_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = kept(concurrency=8, written=9.0).model_copy(update={"shipped": True})
    monkeypatch.setattr(profiles, "_shipped", lambda: (shipped,))
    found = find_profile(SPEC, "vllm", 8)
    assert found and found.written == 9.0 and "shipped" in str(found)
    keep_profile(kept(concurrency=1, written=0.5))
    found = find_profile(SPEC, "vllm", 8)
    assert found and found.written == 0.5 and "shipped" not in str(found)


def test_a_damaged_file_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    path = keep_profile(kept())
    path.with_name("broken.json").write_text("{")
    assert [its.id for its in kept_profiles("m")] == [kept().id]
    assert "broken.json" in caplog.text
    with pytest.raises(Exception, match=r"broken\.json"):
        read_profile(str(path.with_name("broken.json")))


def test_an_unknown_name_gets_the_nearest() -> None:
    keep_profile(kept())
    with pytest.raises(UsageError, match=f"Did you mean .*{kept().id.replace('+', '.')}"):
        read_profile("m-vllm-8x512")
    with pytest.raises(UsageError, match="tandem profile"):
        read_profile("nowhere.json")


def test_an_engine_takes_the_profile_of_where_each_model_runs() -> None:
    for role, concurrency in (("mentor", 1), ("mentor", 32), ("intern", 8)):
        keep_profile(kept(role, "127.0.0.1:9/v1", concurrency))
    at = {"mentor_endpoint": "http://127.0.0.1:9/v1", "intern_endpoint": "http://127.0.0.1:9/v1"}
    engine = Tandem("mentor", "intern", concurrency=24, **at)
    assert [its.spec.profile and its.spec.profile.concurrency for its in (engine.mentor, engine.intern)] == [32, 8]
    assert "seconds" in known_units(engine.mentor.spec, engine.intern.spec)
    elsewhere = Tandem("mentor", "intern", **at | {"intern_endpoint": "http://127.0.0.1:10/v1"})
    assert elsewhere.intern.spec.profile is None
    with pytest.raises(UnknownRatesError, match=r"intern in device seconds.*tandem profile"):
        pair_rates(elsewhere.mentor.spec, elsewhere.intern.spec, "seconds")


def test_a_profile_of_another_model_is_used_and_marked(caplog: pytest.LogCaptureFixture) -> None:
    keep_profile(kept("bigger"))
    engine = Tandem(
        *("mentor", "intern"),
        mentor_endpoint="http://127.0.0.1:9/v1",
        intern_endpoint="http://127.0.0.1:9/v1",
        mentor_profile=kept("bigger").id,
    )
    its = rates(engine.mentor.spec, "seconds", "mentor")
    assert its and its.written == 0.01 and "of another model, bigger" in its.source
    assert "is of bigger, not of mentor" in caplog.text


def test_a_device_hour_gives_own_hardware_a_price_and_leaves_an_api_s_alone() -> None:
    keep_profile(kept("intern", "127.0.0.1:9/v1"))
    engine = Tandem("gpt-4o", "intern", intern_endpoint="http://127.0.0.1:9/v1", usd_per_device_hour=3.6)
    mentor, intern = (rates(its.spec, "usd", "intern") for its in (engine.mentor, engine.intern))
    assert intern and intern.written == pytest.approx(0.01 * 3.6 / 3600)
    assert "3.6 per device hour" in intern.source
    assert engine.mentor.spec.usd_per_device_hour is None and mentor and "prices" in mentor.source


def test_an_assumed_load_needs_the_size_and_says_so() -> None:
    at = {"mentor_endpoint": "http://127.0.0.1:9/v1", "intern_endpoint": "http://127.0.0.1:9/v1"}
    engine = Tandem("m1", "m2", **at, assume_load="interactive", mentor_parameters=7e9, intern_parameters=1e9)
    its = rates(engine.mentor.spec, "seconds", "mentor")
    assert its and its.assumed and its.written == pytest.approx(15 * its.uncached) and "assumed" in its.source
    with pytest.raises(UsageError, match="the size of m2 is needed"):
        Tandem("m1", "m2", **at, assume_load="saturated", mentor_parameters=7e9)


def test_a_measured_one_goes_before_an_assumed_one() -> None:
    keep_profile(kept("m1", "127.0.0.1:9/v1"))
    spec = profiles.timed(ModelSpec(name="m1", parameters=7e9), endpoint="127.0.0.1:9/v1", assume="saturated")
    assert spec.profile and not spec.profile.assumed
    priced = ModelSpec(name="m1", parameters=7e9, prices=Prices(input=1, output=2))
    assert profiles.timed(priced, endpoint="127.0.0.1:9/v1", usd_per_device_hour=2) is priced


def test_an_hour_s_price_that_has_no_effect_is_told(caplog: pytest.LogCaptureFixture) -> None:
    how = {"endpoint": "127.0.0.1:9/v1", "usd_per_device_hour": 2.0}
    profiles.timed(SPEC, **how)  # type: ignore[arg-type]
    assert "no effect on m" in caplog.text and "--assume-load" in caplog.text
    caplog.clear()
    profiles.timed(SPEC, **how, assume="saturated")  # type: ignore[arg-type]
    profiles.timed(SPEC.model_copy(update={"local": False}), **how)  # type: ignore[arg-type]
    assert not caplog.text
