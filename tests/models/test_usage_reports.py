"""What servers report of a call, each in its own way, and that it costs what their bill says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.ledger import Entry, Usage
from tandem.models.openai.api_keys import ApiKeys
from tandem.models.openai.errors import Origin
from tandem.models.openai.stream import StreamReader
from tandem.models.openai.usage import reported_usage
from tandem.spec import ModelSpec, Prices

PRICES = Prices(input=2.0, cached_input=0.1, cache_write=2.5, output=10.0)


@dataclass(frozen=True)
class Tokens:
    """What a call really used: prompt tokens of each kind, and of the answer."""

    plain: int
    read: int
    written: int
    visible: int
    hidden: int


def openai(t: Tokens) -> dict[str, Any]:
    prompt, completion = t.plain + t.read + t.written, t.visible + t.hidden
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": t.read, "cache_write_tokens": t.written, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": t.hidden},
    }


def openai_bill(u: dict[str, Any]) -> float:
    details = u["prompt_tokens_details"]
    read, written = details["cached_tokens"], details["cache_write_tokens"]
    plain = u["prompt_tokens"] - read - written
    return plain * 2.0 + read * 0.1 + written * 2.5 + u["completion_tokens"] * 10.0


def deepseek(t: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": t.plain + t.read,
        "completion_tokens": t.visible + t.hidden,
        "total_tokens": t.plain + t.read + t.visible + t.hidden,
        "prompt_cache_hit_tokens": t.read,
        "prompt_cache_miss_tokens": t.plain,
        "completion_tokens_details": {"reasoning_tokens": t.hidden},
    }


def deepseek_bill(u: dict[str, Any]) -> float:
    miss, hit = u["prompt_cache_miss_tokens"], u["prompt_cache_hit_tokens"]
    return miss * 2.0 + hit * 0.1 + u["completion_tokens"] * 10.0


def anthropic(t: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": t.plain,
        "cache_creation_input_tokens": t.written,
        "cache_read_input_tokens": t.read,
        "output_tokens": t.visible + t.hidden,
    }


def anthropic_bill(u: dict[str, Any]) -> float:
    cached = u["cache_read_input_tokens"] * 0.1 + u["cache_creation_input_tokens"] * 2.5
    return u["input_tokens"] * 2.0 + cached + u["output_tokens"] * 10.0


def gateway_apart(t: Tokens) -> dict[str, Any]:
    """Anthropic's counts under OpenAI's names, passed on without adding them up."""
    found = anthropic(t)
    prompt, completion = found.pop("input_tokens"), found.pop("output_tokens")
    total = prompt + t.read + t.written + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **found}


def gateway_bill(u: dict[str, Any]) -> float:
    return anthropic_bill(u | {"input_tokens": u["prompt_tokens"], "output_tokens": u["completion_tokens"]})


def litellm(t: Tokens) -> dict[str, Any]:
    prompt, completion = t.plain + t.read + t.written, t.visible + t.hidden
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": t.read, "cache_creation_tokens": t.written, "text_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": t.hidden},
        "cache_read_input_tokens": t.read,
        "cache_creation_input_tokens": t.written,
    }


def litellm_bill(u: dict[str, Any]) -> float:
    read, written = u["cache_read_input_tokens"], u["cache_creation_input_tokens"]
    plain = u["prompt_tokens"] - read - written
    return plain * 2.0 + read * 0.1 + written * 2.5 + u["completion_tokens"] * 10.0


def google(t: Tokens) -> dict[str, Any]:
    """Thoughts are in the total alone."""
    prompt = t.plain + t.read
    return {
        "prompt_tokens": prompt,
        "completion_tokens": t.visible,
        "total_tokens": prompt + t.visible + t.hidden,
        "prompt_tokens_details": {"cached_tokens": t.read} if t.read else None,
    }


def google_bill(u: dict[str, Any]) -> float:
    read = (u["prompt_tokens_details"] or {}).get("cached_tokens", 0)
    written = u["total_tokens"] - u["prompt_tokens"]
    return (u["prompt_tokens"] - read) * 2.0 + read * 0.1 + written * 10.0


def text(u: dict[str, Any]) -> dict[str, Any]:
    """Return a report whose numbers are strings, as some gateways write them."""
    return {k: text(v) if isinstance(v, dict) else v if v is None else str(v) for k, v in u.items()}


def same(u: dict[str, Any]) -> dict[str, Any]:
    return u


def with_nulls(u: dict[str, Any]) -> dict[str, Any]:
    """Return a report with fields that this vendor does not have, and 0 as null."""
    others = {"prompt_tokens_details": None, "completion_tokens_details": None, "cost": None}
    return {**others, **{k: None if v == 0 else v for k, v in u.items()}}


WRITES = {"openai", "anthropic", "gateway", "litellm"}
VENDORS: dict[str, tuple[Callable[[Tokens], dict[str, Any]], Callable[[dict[str, Any]], float]]] = {
    "openai": (openai, openai_bill),
    "deepseek": (deepseek, deepseek_bill),
    "anthropic": (anthropic, anthropic_bill),
    "gateway": (gateway_apart, gateway_bill),
    "litellm": (litellm, litellm_bill),
    "google": (google, google_bill),
}
COUNT = st.integers(0, 100_000)


@pytest.mark.parametrize("form", [same, text, with_nulls], ids=["numbers", "strings", "nulls"])
@pytest.mark.parametrize("vendor", VENDORS)
@given(st.builds(Tokens, COUNT, COUNT, COUNT, COUNT, COUNT))
def test_a_parsed_report_costs_what_the_vendor_bills(vendor: str, form: Callable[..., Any], tokens: Tokens) -> None:
    report, bill = VENDORS[vendor]
    if vendor not in WRITES:
        tokens = Tokens(tokens.plain, tokens.read, 0, tokens.visible, tokens.hidden)
    raw = report(tokens)
    usage = reported_usage(form(raw))
    entry = Entry.of(ModelSpec(name="m", local=False, prices=PRICES), "mentor", "answer", usage, seconds=1.0)
    assert entry.usd == pytest.approx(bill(raw) / 1e6)
    assert (usage.prompt, usage.cached) == (tokens.plain + tokens.read + tokens.written, tokens.read)
    assert (usage.cache_write, usage.completion) == (tokens.written, tokens.visible + tokens.hidden)


@pytest.mark.parametrize(
    ("report", "usage"),
    [
        ({"prompt_tokens": "12", "completion_tokens": "3"}, Usage(prompt=12, completion=3)),
        ({"prompt_tokens": 12.0, "completion_tokens": "3.0"}, Usage(prompt=12, completion=3)),
        ({"prompt_tokens": 12, "completion_tokens": None, "total_tokens": 15}, Usage(prompt=12, completion=3)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 8}, Usage(prompt=9, cached=8, completion=1)),
        ({"prompt_cache_hit_tokens": 7, "prompt_cache_miss_tokens": 2}, Usage(prompt=9, cached=7)),
        # More was read from the cache than the prompt has: it is reported beside the prompt.
        ({"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}}, Usage(prompt=10, cached=6)),
        ({"prompt_tokens": "many", "completion_tokens": -3, "total_tokens": True}, Usage()),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, Usage()),
        ({"prompt_tokens": 5, "prompt_tokens_details": [1], "completion_tokens_details": "none"}, Usage(prompt=5)),
        ({"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}, None),
    ],
)
def test_odd_reports(report: dict[str, Any], usage: Usage | None) -> None:
    assert reported_usage(report) == (usage or Usage(prompt=9, cached=4, completion=2))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
NAMES = sorted({name for report, _ in VENDORS.values() for name in report(Tokens(1, 1, 1, 1, 1))})


@given(st.dictionaries(st.sampled_from([*NAMES, "cached_tokens"]), ANYTHING))
def test_no_report_breaks_the_parser_or_costs_less_than_nothing(report: dict[str, Any]) -> None:
    usage = reported_usage(report)
    assert 0 <= usage.cached + usage.cache_write <= usage.prompt
    entry = Entry.of(ModelSpec(name="m", local=False, prices=PRICES), "mentor", "answer", usage, seconds=1.0)
    assert entry.usd is not None and entry.usd >= 0


@pytest.mark.parametrize("usage", ["12", [1, 2], 3, True])
def test_a_report_that_is_none_is_none(usage: Any) -> None:
    reader = StreamReader(Origin("here", "stub", ApiKeys("here")), vocabulary=None, logprobs=0)
    chunks = [{"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}]
    data = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    assert [delta.text for delta in reader.feed(data.encode())] == ["x"]
    assert reader.usage is None
