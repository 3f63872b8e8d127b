"""What the values of options may be: numbers that are finite, lists of them, a unit of cost, a window of problems."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import click

from tandem.errors import UsageError

if TYPE_CHECKING:
    from tandem.costs import Unit


class FiniteNumber(click.FloatRange):
    """A number within a range; infinity and not-a-number are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value} is not a finite number.", param, ctx)


class UnitName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A unit of cost, typed with dashes or with underscores."""

    name = "unit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Unit:
        from tandem.costs import parse_unit

        try:
            return parse_unit(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers such as 0,1,2", param, ctx)


class Window(click.IntRange):
    """How many problems: an int; or a range of them, (skip, limit), of ``A-B``, the A-th to the B-th, or ``A:B``, a
    slice as Python has it.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"(\d+)([:-])(\d+)", str(value))
        if not found:
            return super().convert(value, param, ctx)
        begin, end = int(found[1]) - (found[2] == "-"), int(found[3])
        if 0 <= begin < end:
            return begin, end - begin
        self.fail(f"{value} is no range such as 10-20 or 200:400.", param, ctx)
