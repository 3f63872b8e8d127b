"""What a call costs in each unit, and what is said where a model has no rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.costs import (
    UNITS,
    Rates,
    Unit,
    UnknownRatesError,
    amount,
    assumed_profile,
    default_unit,
    known_units,
    pair_rates,
    parse_unit,
    rates,
)
from tandem.errors import UsageError
from tandem.spec import Architecture, ModelSpec, Prices, SpeedProfile

PRICES = Prices(input=2, output=10, cached_input=0.2, cache_write=2.5, date="2026-11-01")
PROFILE = SpeedProfile(model="m", uncached=0.001, cached=0.0001, written=0.01, device="one GPU", load="8 at once")
API = ModelSpec(name="api", local=False, prices=PRICES)
OWN = ModelSpec(name="own", parameters=7e9, architecture=Architecture(layers=2, attention_width=4))


def test_us_dollars_by_hand() -> None:
    own = rates(API, "usd", "mentor")
    assert own is not None
    # 1,000 read: 300 cached, 200 written to the cache, 500 plain; 100 written.
    expected = (500 * 2 + 300 * 0.2 + 200 * 2.5 + 100 * 10) / 1e6
    assert own.cost(1000, 300, 100, cache_write=200) == pytest.approx(expected)


def test_a_price_without_cache_prices_takes_every_prompt_token_alike() -> None:
    own = rates(API.model_copy(update={"prices": Prices(input=2, output=10)}), "usd", "mentor")
    assert own and own.cost(1000, 300, 0, cache_write=200) == pytest.approx(1000 * 2 / 1e6)


def test_device_time_and_its_price() -> None:
    spec = OWN.model_copy(update={"profile": PROFILE, "usd_per_device_hour": 3.6})
    seconds, usd = rates(spec, "seconds", "intern"), rates(spec, "usd", "intern")
    assert seconds and seconds.cost(100, 60, 10) == pytest.approx(40 * 0.001 + 60 * 0.0001 + 10 * 0.01)
    assert usd and usd.cost(100, 60, 10) == pytest.approx(seconds.cost(100, 60, 10) * 3.6 / 3600)


def test_only_mentor_tokens_count_as_mentor_tokens() -> None:
    mentor, intern = pair_rates(API, OWN, "mentor_tokens")
    assert (mentor.cost(500, 0, 70), intern.cost(500, 0, 70)) == (70, 0)


def test_what_is_missing_is_named_and_hinders_only_its_unit() -> None:
    assert known_units(API, OWN) == ("usd", "mentor_tokens")
    with pytest.raises(UnknownRatesError, match=r"cost of api in TFLOPs is not known; it needs its size"):
        pair_rates(API, OWN, "tflops")
    with pytest.raises(UnknownRatesError, match=r"api in device seconds .*tandem profile"):
        pair_rates(API, OWN, "seconds")
    with pytest.raises(UnknownRatesError, match=r"own in US\$ .*--prices FILE"):
        pair_rates(OWN, API, "usd")


def test_an_intern_of_ones_own_costs_no_dollars_and_says_so() -> None:
    _, intern = pair_rates(API, OWN, "usd")
    assert intern.cost(1000, 0, 1000) == 0 and "free" in intern.source
    billed = OWN.model_copy(update={"local": False})
    with pytest.raises(UnknownRatesError, match=r"own in US\$"):
        pair_rates(API, billed, "usd")


def test_the_default_unit_is_what_the_user_pays() -> None:
    profiled = OWN.model_copy(update={"profile": PROFILE})
    assert default_unit(API, OWN) == "usd"
    assert default_unit(profiled, profiled) == "seconds"
    assert default_unit(OWN, OWN) == "tflops"
    assert default_unit(ModelSpec(name="x"), ModelSpec(name="y")) == "mentor_tokens"


def test_a_unit_is_read_as_typed() -> None:
    assert parse_unit("tflops-published") == parse_unit("TFLOPS_published") == "tflops_published"
    with pytest.raises(UsageError, match="unit"):
        parse_unit("dollars")


def test_an_assumed_profile_keeps_the_ratio_of_its_load() -> None:
    found = assumed_profile(OWN, "interactive")
    assert found and found.assumed and found.written == pytest.approx(15 * found.uncached)
    assert assumed_profile(API) is None


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000))
def test_a_longer_call_never_costs_less(cached: int, fresh: int, written: int, more: int) -> None:
    spec = OWN.model_copy(update={"prices": PRICES, "profile": PROFILE})
    for unit in UNITS:
        own = rates(spec, unit, "mentor")
        assert isinstance(own, Rates)
        cost = own.cost(cached + fresh, cached, written)
        assert 0 <= cost <= own.cost(cached + fresh, cached, written + more) + 1e-12
        assert cost <= own.cost(cached + fresh + more, cached, written) + 1e-12


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.1, "usd", "US$ 3.10"),
        (0.03149, "usd", "US$ 0.031"),
        (0, "usd", "US$ 0"),
        (1234.5, "usd", "US$ 1,234.50"),
        (1234.56, "mentor_tokens", "1,235 mentor tokens"),
        (0.036, "tflops", "0.036 TFLOPs"),
        (12.34, "seconds", "12.3 device seconds"),
        (0.4, "mentor_tokens", "0 mentor tokens"),
    ],
)
def test_an_amount_has_its_unit_and_two_digits(value: float, unit: Unit, text: str) -> None:
    assert amount(value, unit) == text
