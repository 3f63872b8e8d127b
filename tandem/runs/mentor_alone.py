"""What the mentor alone would have cost, estimated from what it writes: never from the intern's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class MentorAlone:
    """The mentor alone over the problems of a run in which it did not answer all of them itself.

    `cost` has, by unit, a value for each of `ids`: nan stands for the mean of the problems that it answered itself, and
    None for a unit without rates. `basis` says in words where the figures come from. With `bound` they are the most
    that it could have cost, which nothing can be compared with. `accuracy` is that on `problems` other problems.
    """

    ids: list[str]
    cost: Mapping[str, np.ndarray | None]
    basis: str
    bound: bool = False
    accuracy: float | None = None
    problems: int = 0
