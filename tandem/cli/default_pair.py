"""The pair where none is named: that of the config file, else the demo pair in this process, once it is here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from tandem.errors import TandemError, UsageError
from tandem.models.default_pair import DEMO_PAIR as _NAMES
from tandem.models.default_pair import default_pair

if TYPE_CHECKING:
    from tandem.models.catalog import CatalogEntry

DEMO_PAIR = dict(zip(("mentor", "intern"), _NAMES, strict=True))
_NEEDED = ("torch", "transformers", "gguf")  # of the extra `local`


def optional_pair(command: click.Command) -> click.Command:
    """Let a command be called without its pair; it has to call `take_default_pair` then."""
    for option in command.params:
        if isinstance(option, click.Option) and option.name in DEMO_PAIR:
            option.required = False
            option.help = (
                f"{option.help} Default, where neither is given: {DEMO_PAIR[option.name]}, or your config file's."
            )
    return command


def take_default_pair(options: dict[str, Any]) -> None:
    """Name the default pair in a command's options where it names no model.

    Raises UsageError where it names only one, an endpoint without its model, or a config file that cannot be used, and
    TandemError, in a line that says how to get it, where the demo pair is not on this machine.
    """
    for role in DEMO_PAIR:
        if not options[role] and (any(options[other] for other in DEMO_PAIR) or options[f"{role}_endpoint"]):
            raise UsageError(f"--{role} is missing: name both models, or neither for the default pair")
    if options["mentor"]:
        return
    pair = default_pair()
    options.update({name: value for name, value in pair.arguments().items() if options.get(name) is None})
    if pair.source is not None:
        return
    if missing := what_is_missing():
        raise TandemError(
            f"no --mentor and --intern are given, and the demo pair is not on this machine: {missing}; "
            "`tandem demo` plays recorded problems without it"
        )


def what_is_missing() -> str | None:
    """Return what the demo pair lacks here, how large it is, and the commands that fetch it; None: nothing."""
    steps = []
    if any(find_spec(package) is None for package in _NEEDED):
        steps.append("pip install 'tandem-reasoning[local]' (PyTorch and Transformers)")
    if entries := missing_weights():
        size = sum(entry.gguf.bytes for entry in entries if entry.gguf) / 1e9
        steps.append(f"tandem models pull {' '.join(entry.name for entry in entries)} ({size:.1f} GB to fetch)")
    return "; then ".join(steps) or None


def missing_weights() -> list[CatalogEntry]:
    from tandem.models.catalog import find
    from tandem.models.weights import pulled

    return [entry for entry in map(find, DEMO_PAIR.values()) if not pulled(entry)]
