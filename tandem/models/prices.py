"""The user's own price file, what their contract says, for models of any backend; and the tier that is billed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from tandem.errors import UsageError
from tandem.models.catalog import lookup
from tandem.spec import ModelSpec, Prices

_EXAMPLE = "`gpt-4o: {input: 2.5, output: 10}`"


def load_prices(path: str | Path) -> dict[str, Prices]:
    """Return the prices of a YAML (or JSON) file by model name.

    One line a model, US$ per million tokens: ``gpt-4o: {input: 2.5, cached_input: 1.25, output: 10}``; if you like,
    with `cache_write`, `batch` (what the batch tier costs of the others: 0.5), `tier: batch` and a `date`. Raises
    UsageError for a file that cannot be used, naming the model and the field.
    """
    from tandem.storage.bounded_yaml import load_yaml

    path = Path(path).expanduser()
    try:
        content = load_yaml(path, "the price file")
    except OSError as error:
        raise UsageError(f"the price file {path} cannot be read: {error.strerror}") from None
    if not isinstance(content, dict) or not content:
        raise UsageError(f"the price file {path} must name models: {_EXAMPLE}")
    prices = {}
    for name, fields in content.items():
        try:
            prices[str(name)] = _prices(fields)
        except ValueError as error:
            raise UsageError(f"the price file {path}: {name}{_reason(error)}") from None
    return prices


class HasSpec(Protocol):
    """A model, or what stands for one where none is called."""

    spec: ModelSpec


def price(models: Sequence[HasSpec], path: str | Path | None, *, batch: bool = False) -> None:
    """Give models their prices out of a file, if there is one, and bill them as batches where wanted.

    Raises UsageError for a file that names none of them, and as `load_prices` and `bill_as_batch` do.
    """
    own = load_prices(path) if path is not None else {}
    named = [set_prices(model, own) for model in models]
    if own and not any(named):
        names = " nor ".join(model.spec.name for model in models)
        raise UsageError(f"the price file {path} names neither {names}; it names {', '.join(own)}")
    if batch:
        bill_as_batch(models)


def set_prices(model: HasSpec, prices: Mapping[str, Prices]) -> bool:
    """Give `model` its price out of `prices`, by its name or an alias; return whether there is one."""
    for name, own in prices.items():
        entry = lookup(name)
        if model.spec.name == name or (entry is not None and entry.name == model.spec.name):
            model.spec = model.spec.model_copy(update={"prices": own})
            return True
    return False


def bill_as_batch(models: Iterable[HasSpec]) -> None:
    """Price the calls of these models as the vendors' batch tiers do. Raises UsageError where none has such a price."""
    models = list(models)
    found = False
    for model in models:
        prices = model.spec.prices
        if prices is not None and prices.batch is not None:
            found = True
            model.spec = model.spec.model_copy(update={"prices": prices.model_copy(update={"tier": "batch"})})
    if not found:
        names = " and ".join(model.spec.name for model in models)
        raise UsageError(f"no batch price is known for {names}; give one with --prices FILE: `NAME: {{…, batch: 0.5}}`")


def _prices(fields: Any) -> Prices:
    if not isinstance(fields, dict):
        raise ValueError(f": prices are fields, as in {_EXAMPLE}")
    for name, value in fields.items():
        if isinstance(value, bool):  # which would be 1 or 0
            raise ValueError(f".{name}: {value} is no price")
    return Prices.model_validate({k: str(v) if k == "date" and v is not None else v for k, v in fields.items()})


def _reason(error: ValueError) -> str:
    """Return where the prices of a model are wrong, and how."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where, value = ".".join(map(str, first["loc"])), first["input"]
    match first["type"]:
        case "extra_forbidden":
            return f".{where}: no such field; there are {', '.join(Prices.model_fields)}"
        case "missing":
            return f".{where} is missing; a model needs input and output, as in {_EXAMPLE}"
        case "value_error":
            return f": {first['ctx']['error']}"
        case "literal_error":
            return f".{where}: {value!r} is no tier; it is standard or batch"
    bounds = (
        "from 0 to 1, the share of the other prices" if where == "batch" else "in US$ per million tokens, not below 0"
    )
    return f".{where}: {str(value)[:40]!r} is no price; a number is needed, {bounds}"
