"""Price files: every field, every mistake in one line with its place, and files made to exhaust the reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.costs import rates
from tandem.errors import UsageError
from tandem.models.base import Model
from tandem.models.fake import FakeModel
from tandem.models.load import load_model
from tandem.models.prices import bill_as_batch, load_prices, set_prices
from tandem.spec import ModelSpec, Prices

EVERY_FIELD = """
gpt-4o: {input: 2.5, output: 10, cached_input: 1.25, cache_write: 3, batch: 0.5, tier: batch, date: 2026-11-22}
deepseek-ai/DeepSeek-R1-Distill-Qwen-7B: {input: "0.1", output: 1e-1}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.yaml"


def model(name: str, prices: Prices | None = None) -> Model:
    made = FakeModel()
    made.spec = ModelSpec(name=name, local=False, prices=prices)
    return made


def test_every_field_is_read(file: Path) -> None:
    file.write_text(EVERY_FIELD)
    assert load_prices(file) == {
        "gpt-4o": Prices(
            input=2.5, output=10, cached_input=1.25, cache_write=3, batch=0.5, tier="batch", date="2026-11-22"
        ),
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Prices(input=0.1, output=0.1),
    }


def test_a_price_is_found_by_any_name_of_the_model(file: Path) -> None:
    file.write_text(EVERY_FIELD)
    intern = load_model("deepseek-7b", role="intern", endpoint="http://localhost:1/v1")
    assert set_prices(intern, load_prices(file)) and intern.spec.prices == Prices(input=0.1, output=0.1)
    assert not set_prices(model("another"), load_prices(file))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "m: {input: -1, output: 2}",
            "m.input: '-1' is no price; a number is needed, in US$ per million tokens, not below 0",
        ),
        ("m: {input: 1, output: .nan}", "m.output: 'nan' is no price"),
        ("m: {input: 1, output: .inf}", "m.output: 'inf' is no price"),
        ("m: {input: 1, output: two}", "m.output: 'two' is no price"),
        ("m: {input: 1, output: '1,5'}", "m.output: '1,5' is no price"),
        ("m: {input: true, output: 1}", "m.input: True is no price"),
        ("m: {input: 1}", "m.output is missing; a model needs input and output"),
        ("m: {input: 1, output: 2, cache_write: -0.1}", "m.cache_write: '-0.1' is no price"),
        ("m: {input: 1, output: 2, batch: 1.5}", "m.batch: '1.5' is no price; a number is needed, from 0 to 1"),
        ("m: {input: 1, output: 2, tier: flex}", "m.tier: 'flex' is no tier; it is standard or batch"),
        ("m: {input: 1, output: 2, tier: batch}", "m: the batch tier needs `batch`"),
        ("m: {input: 1, ouput: 2, output: 2}", "m.ouput: no such field; there are input, output, cached_input"),
        ("m: 3", "m: prices are fields, as in `gpt-4o: {input: 2.5, output: 10}`"),
        ("m: {input: 1, output: 2}\nm: {input: 3, output: 4}", "line 2: 'm' stands twice"),
        ("m: {input: 1, input: 1, output: 2}", "'input' stands twice"),
        ("- m", "must name models"),
        ("", "must name models"),
        ("m: {input: [", "is not YAML: line 1"),
        ("m: {input: 1, output: 2, date: 2026-13-45}", "is not YAML: month must be in 1..12"),
        ("m: !!python/object/apply:os.system [ls]", "is not YAML: line 1"),
        ("m: {input: 9" + "9" * 5000 + ", output: 1}", ""),
    ],
)
def test_a_mistake_is_one_line_with_its_place(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_prices(file)
    line = str(caught.value)
    assert line.startswith(f"the price file {file}") and said in line
    assert "\n" not in line and len(line) < 400


BOMBS = {
    "nested lists": "m: " + "[" * 100_000 + "]" * 100_000,
    "nested mappings": "m: " + "{a: " * 5_000 + "1" + "}" * 5_000,
    "nested by indentation": "\n".join(" " * depth + "a:" for depth in range(900)),
    "aliases of aliases": "a: &a [x, x]\n"
    + "\n".join(f"{n}: &{n} [*{p}, *{p}]" for p, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "a long file": "m: {input: 1, output: 2}\n" + "# nothing\n" * 200_000,
    "no text": "\xff\xfe\x00",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_file_made_to_exhaust_the_reader_is_one_line(file: Path, content: str) -> None:
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        load_prices(file)
    assert str(caught.value).startswith(f"the price file {file}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"cannot be read: {reason}"):
            load_prices(path)


MONEY = st.floats(0, 1e3).map(lambda price: round(price, 6))
TOKENS = st.integers(0, 100_000)


@given(
    st.builds(
        Prices,
        input=MONEY,
        output=MONEY,
        cached_input=st.none() | MONEY,
        cache_write=st.none() | MONEY,
        batch=st.floats(0, 1),
    ),
    *(TOKENS, TOKENS, TOKENS, TOKENS),
)
def test_the_batch_tier_costs_its_share_of_every_kind_of_token(
    prices: Prices, plain: int, cached: int, written_to_cache: int, completion: int
) -> None:
    own = model("m", prices)
    tokens = plain + cached + written_to_cache, cached, completion
    standard = rates(own.spec, "usd", "mentor")
    bill_as_batch([own])
    batch = rates(own.spec, "usd", "mentor")
    assert standard and batch and prices.batch is not None and batch.source == "batch prices"
    expected = prices.batch * standard.cost(*tokens, cache_write=written_to_cache)
    assert batch.cost(*tokens, cache_write=written_to_cache) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_batch_prices_need_a_model_that_has_them() -> None:
    unpriced, priced = model("a", Prices(input=1, output=2)), model("b", Prices(input=1, output=2, batch=0.5))
    bill_as_batch([unpriced, priced])
    assert unpriced.spec.prices and unpriced.spec.prices.tier == "standard"
    with pytest.raises(UsageError, match="no batch price is known for a and own; give one with --prices FILE"):
        bill_as_batch([unpriced, model("own")])
