"""The user's own price file: what their contract says, for models of any backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from tandem.errors import UsageError
from tandem.models.base import Model
from tandem.models.catalog import lookup
from tandem.spec import Prices


def load_prices(path: str | Path) -> dict[str, Prices]:
    """Return the prices of a YAML (or JSON) file by model name.

    One line a model, US$ per million tokens: ``gpt-4o: {input: 2.5, cached_input: 1.25, output: 10}``, with a ``date``
    if you like. Raises UsageError for a file that cannot be read, naming the model whose line is wrong.
    """
    import yaml

    path = Path(path).expanduser()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the price file {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the price file {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content:
        raise UsageError(f"the price file {path} must name models: `gpt-4o: {{input: 2.5, output: 10}}`")
    prices = {}
    for name, fields in content.items():
        try:
            prices[str(name)] = Prices.model_validate(
                {k: str(v) if k == "date" else v for k, v in dict(fields).items()}
            )
        except (ValidationError, TypeError, ValueError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "no prices"}
            where = ".".join(str(part) for part in (name, *first["loc"]))
            raise UsageError(f"the price file {path}: {where}: {first['msg']}") from None
    return prices


def set_prices(model: Model, prices: Mapping[str, Prices]) -> bool:
    """Give `model` its price out of `prices`, by its name or an alias; return whether there is one."""
    for name, price in prices.items():
        entry = lookup(name)
        if model.spec.name == name or (entry is not None and entry.name == model.spec.name):
            model.spec = model.spec.model_copy(update={"prices": price})
            return True
    return False
