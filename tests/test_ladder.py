"""Effort levels as the command line takes them: what is read is what was written, and every refusal says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.errors import UsageError
from tandem.ladder import DEFAULT_BUDGETS, Effort, Ladder, format_ladder, parse_ladder

quick = settings(max_examples=50, deadline=None)


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    bought = [name for name in ("low", "medium", "high") if draw(st.booleans())]
    budgets = sorted(draw(st.sets(st.integers(1, 100_000), min_size=len(bought), max_size=len(bought))))
    levels = [Effort(name=name, tokens=tokens) for name, tokens in zip(bought, budgets, strict=True)]
    if draw(st.booleans()):
        levels.insert(0, Effort(name="none", tokens=0))
    if draw(st.booleans()) or not levels:
        levels.append(Effort(name="answer", tokens=None))
    return tuple(levels)


@quick
@given(ladders())
def test_what_is_written_is_read_back(ladder: Ladder) -> None:
    assert parse_ladder(format_ladder(ladder)) == ladder
    # The short form leaves out budgets that are the default.
    assert parse_ladder(",".join(map(str, ladder))) == ladder


@quick
@given(ladders(), st.sampled_from(["", " ", "  "]))
def test_spaces_do_not_matter(ladder: Ladder, space: str) -> None:
    text = format_ladder(ladder).replace(",", f"{space},{space}").replace("=", f"{space}={space}")
    assert parse_ladder(f"{space}{text}{space}") == ladder


def test_budgets_come_from_the_text_then_the_pair_then_the_default() -> None:
    ladder = parse_ladder("none,low=7,medium,high,answer", {"low": 40, "medium": 90})
    assert [level.tokens for level in ladder] == [0, 7, 90, DEFAULT_BUDGETS["high"], None]
    assert [level.is_answer for level in ladder] == [False, False, False, False, True]
    assert format_ladder(ladder) == "none,low=7,medium=90,high=1000,answer"


def test_a_pair_may_bring_levels_of_its_own() -> None:
    ladder = parse_ladder("none,tiny,low", {"tiny": 20})
    assert ladder[1] == Effort(name="tiny", tokens=20)
    assert parse_ladder(format_ladder(ladder), {"tiny": 20}) == ladder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown effort level ''. Known: answer, high, low, medium, none, question."),
        ("none,,low", "unknown effort level ''. Known: answer, high, low, medium, none, question."),
        ("none,meduim", "unknown effort level 'meduim'. Did you mean medium?"),
        ("High", "unknown effort level 'High'. Did you mean high?"),
        ("low,low=200", "effort level 'low' is named twice in 'low,low=200'"),
        ("answer,answer", "effort level 'answer' is named twice in 'answer,answer'"),
        ("none=5", "effort level 'none' takes no number of tokens"),
        ("none,answer=5", "effort level 'answer' takes no number of tokens"),
        ("low=", "effort level 'low' needs a positive number of mentor tokens, not ''"),
        ("low=0", "effort level 'low' needs a positive number of mentor tokens, not '0'"),
        ("low=-3", "effort level 'low' needs a positive number of mentor tokens, not '-3'"),
        ("low=1e3", "effort level 'low' needs a positive number of mentor tokens, not '1e3'"),
        ("low=²", "effort level 'low' needs a positive number of mentor tokens, not '²'"),
        ("answer,low", "effort level 'answer' comes last"),
        ("low,none", "effort level 'none' (0 tokens) must be above 'low' in 'low,none'"),
        ("low=600,medium", "effort level 'medium' (500 tokens) must be above 'low=600' in 'low=600,medium'"),
        ("low=500,medium", "effort level 'medium' (500 tokens) must be above 'low=500' in 'low=500,medium'"),
    ],
)
def test_every_refusal_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_ladder(text)
    assert str(refusal.value) == message
    assert refusal.value.exit_code == 2
