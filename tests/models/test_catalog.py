"""The catalog's facts, and how names lead to them."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tandem.costs import rates
from tandem.errors import UsageError
from tandem.models.catalog import CatalogEntry, find, load_catalog, lookup, spec_of
from tandem.models.load import load_model
from tandem.models.openai import OpenAIModel
from tandem.models.openai.api_keys import VARIABLES, ApiKeys
from tandem.spec import Prices

ENTRIES = load_catalog()
WEIGHTS = [entry for entry in ENTRIES if entry.local]
APIS = [entry for entry in ENTRIES if not entry.local]

# hidden size, feed-forward size, query heads, key-value heads, head size, tied, attention biases, query-key norms
SHAPES = {
    "smollm2-135m": (576, 1536, 9, 3, 64, True, False, False),
    "qwen2.5-coder-0.5b": (896, 4864, 14, 2, 64, True, True, False),
    "qwen2.5-coder-1.5b": (1536, 8960, 12, 2, 128, True, True, False),
    "qwen2.5-0.5b": (896, 4864, 14, 2, 64, True, True, False),
    "qwen2.5-1.5b": (1536, 8960, 12, 2, 128, True, True, False),
    "qwen2.5-3b": (2048, 11008, 16, 2, 128, True, True, False),
    "qwen2.5-7b": (3584, 18944, 28, 4, 128, False, True, False),
    "qwen2.5-14b": (5120, 13824, 40, 8, 128, False, True, False),
    "qwen2.5-32b": (5120, 27648, 40, 8, 128, False, True, False),
    "qwen2.5-72b": (8192, 29568, 64, 8, 128, False, True, False),
    "deepseek-1.5b": (1536, 8960, 12, 2, 128, False, True, False),
    "deepseek-7b": (3584, 18944, 28, 4, 128, False, True, False),
    "deepseek-14b": (5120, 13824, 40, 8, 128, False, True, False),
    "deepseek-32b": (5120, 27648, 40, 8, 128, False, True, False),
    "qwen3-0.6b": (1024, 3072, 16, 8, 128, True, False, True),
    "qwen3-1.7b": (2048, 6144, 16, 8, 128, True, False, True),
    "qwen3-4b": (2560, 9728, 32, 8, 128, True, False, True),
    "qwen3-8b": (4096, 12288, 32, 8, 128, False, False, True),
    "qwen3-14b": (5120, 17408, 40, 8, 128, False, False, True),
    "qwen3-32b": (5120, 25600, 64, 8, 128, False, False, True),
}


@pytest.mark.parametrize("entry", WEIGHTS, ids=lambda e: e.name)
def test_the_parameters_are_those_of_the_architecture(entry: CatalogEntry) -> None:
    hidden, inner, heads, pairs, size, tied, biases, norms = SHAPES[entry.name]
    assert entry.architecture is not None
    query, key = heads * size, pairs * size
    layer = 2 * hidden * query + 2 * hidden * key + 3 * hidden * inner + 2 * hidden
    layer += (query + 2 * key if biases else 0) + (2 * size if norms else 0)
    embedding = entry.vocabulary * hidden
    active = entry.architecture.layers * layer + hidden + embedding
    assert entry.architecture.attention_width == query
    assert entry.parameters == active + (0 if tied else embedding)
    assert spec_of(entry).active_parameters == active


@pytest.mark.parametrize("entry", WEIGHTS, ids=lambda e: e.name)
def test_the_name_states_the_nominal_size(entry: CatalogEntry) -> None:
    assert entry.nominal is not None
    number = float(entry.name.rpartition("-")[2].rstrip("bm"))
    assert entry.nominal == pytest.approx(number * (1e6 if entry.name.endswith("m") else 1e9))


def test_the_published_formula_gets_its_sizes() -> None:
    assert [spec_of(find(name)).parameters for name in ("deepseek-7b", "deepseek-32b")] == [7e9, 32e9]


@pytest.mark.parametrize("entry", APIS, ids=lambda e: e.name)
def test_api_models_are_priced_and_never_local(entry: CatalogEntry) -> None:
    spec = spec_of(entry)
    assert not spec.local
    assert spec.parameters is None
    assert spec.prices is not None
    assert spec.prices.date
    assert spec.prices.cached_input is not None
    assert 0 < spec.prices.cached_input < spec.prices.input < spec.prices.output
    assert not (spec.reasoning and spec.logprobs)
    assert spec.prices.batch in (None, 0.5)
    if spec.prices.cache_write is not None:
        assert spec.prices.cache_write == pytest.approx(1.25 * spec.prices.input)


@pytest.mark.parametrize("entry", APIS, ids=lambda e: e.name)
def test_each_service_has_its_own_key_for_its_own_host(entry: CatalogEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"the value of {name}")
    assert entry.endpoint is not None and entry.api_key_env in VARIABLES
    keys = ApiKeys(urlsplit(entry.endpoint).hostname or "", "mentor")
    assert (keys.own, keys.key) == (entry.api_key_env, f"the value of {entry.api_key_env}")
    foreign = ApiKeys(f"{keys.host}.example.org", "mentor")
    assert foreign.key == "the value of TANDEM_MENTOR_API_KEY" and foreign.own is None
    assert foreign.redact(f"Bearer the value of {entry.api_key_env}") == "Bearer [key]"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("openai/GPT-4o", "gpt-4o"),
        ("anthropic/claude-opus-5.5", "claude-opus-5-5"),
        ("google/gemini-3.6-flash", "gemini-3.6-flash"),
        ("deepseek-v4-flash", "deepseek-v4-flash"),
    ],
)
def test_a_service_is_asked_by_its_own_name_for_the_model(name: str, asked: str) -> None:
    model = load_model(name, role="mentor")
    assert isinstance(model, OpenAIModel) and model.endpoint.model == asked
    gateway = load_model(name, role="mentor", endpoint="https://openrouter.ai/api/v1")
    assert isinstance(gateway, OpenAIModel) and gateway.endpoint.model == name
    assert gateway.spec.prices == model.spec.prices and gateway.endpoint.keys.own == "OPENROUTER_API_KEY"


def test_a_price_is_that_of_the_price_list() -> None:
    spec = spec_of(find("gpt-4o"))
    assert spec.prices == Prices(input=2.5, cached_input=1.25, output=10, batch=0.5, date="2026-10-10")
    own = rates(spec, "usd", "mentor")
    assert own and own.cost(1_000_000, 400_000, 100_000) == pytest.approx(1.5 + 0.5 + 1.0)


def test_thinking_models_take_their_first_tokens_as_insight() -> None:
    modes = {entry.name: entry.insight_mode for entry in ENTRIES}
    assert {name for name, mode in modes.items() if mode == "prefix"} == {
        name for name in modes if name.startswith(("deepseek", "qwen3"))
    }


def test_every_name_leads_to_one_entry_only() -> None:
    names = [name for entry in ENTRIES for name in entry.called()]
    assert len(names) == len(set(names))
    assert all(lookup(name) in ENTRIES for name in names)


@pytest.mark.parametrize(
    "name", ["DeepSeek-7B", "deepseek-r1-distill-qwen-7b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"]
)
def test_a_model_goes_by_its_name_its_aliases_and_its_hub_id_in_any_case(name: str) -> None:
    assert find(name).name == "deepseek-7b"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert lookup("deepsek-7b") is None
    with pytest.raises(UsageError, match=r"unknown model 'deepsek-7b'. Did you mean deepseek-7b"):
        find("deepsek-7b")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"endpoint": "https://x.test/v1", "api_key_env": "KEY"}, "dated prices"),
        (
            {"endpoint": "https://x.test/v1", "api_key_env": "KEY", "prices": Prices(input=1, output=2)},
            "dated prices",
        ),
        ({"hub": "a/b", "nominal": 1e9}, "weights need"),
        ({"hub": "a/b", "colour": "red"}, "colour"),
    ],
)
def test_an_entry_that_lacks_what_its_kind_needs_is_refused(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        CatalogEntry(name="x", context=1, vocabulary=1, **fields)
