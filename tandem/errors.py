"""Every error a user may see, each with a message that says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tandem.ledger import Ledger, Usage


class TandemError(Exception):
    """A failure: one clear line for the user, exit code 1.

    `ledger` holds what a problem cost before it failed, if any.
    """

    exit_code = 1
    ledger: Ledger | None = None


class UsageError(TandemError):
    """Bad usage (an unknown name, a bad option, a bad problem): exit code 2."""

    exit_code = 2


class EndpointError(TandemError):
    """An endpoint is down, refuses the key, or serves no such model.

    ``retryable`` says whether the same request may succeed later. ``usage`` is what the failed request cost, if that
    is known better than by counting the received tokens (a refused request costs nothing).
    """

    def __init__(self, message: str, *, retryable: bool = False, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.usage = usage


class LimitReached(TandemError):
    """The run's own limit (US$ or minutes) allows no further call; nothing is lost, and the run can be resumed."""


class InvalidOutputError(TandemError):
    """A model's answer does not have the form that was asked for; what it cost is in `ledger`."""


class MissingKeyError(TandemError):
    """No API key in the environment for an endpoint that needs one."""


class DigestError(TandemError):
    """A downloaded file is not the one that the catalog pins."""


class CapabilityError(UsageError):
    """The model lacks what the strategy needs (log-probabilities, continuation)."""


class ClassifierMismatchError(TandemError):
    """A classifier was fitted on other signals, another estimator or another log-probability mode."""


class MissingPackageError(TandemError):
    """A feature needs an extra that is not installed; the message is the install command."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'tandem-reasoning[{extra}]'")


def nearest(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown `name`, with the nearest known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else f" Known: {', '.join(names)}."
    return UsageError(f"unknown {kind} '{name}'.{hint}")
