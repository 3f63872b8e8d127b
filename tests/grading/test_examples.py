"""What counts as an example of a question: doctest's form and nothing else, as people and data sets write it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.grading.examples import DoctestExample, examples_of

HUMAN_EVAL = '''Complete this function. Answer with the whole function, its imports included.

```python
from typing import List


def longest(words: List[str], least: int = 0) -> str:
    """ Return the longest word of at least so many letters.
    Of equals the first.
    >>> longest(["a", "bc"])
    'bc'

    >>> longest(["a\\\\nb",
    ...          "cd"])
    'a\\\\nb'
    >>> kept = ["x"]
    >>> print(longest(kept)); print(2)
    x
    2
    >>> longest([])
    Traceback (most recent call last):
        ...
    ValueError: no word
    """
```'''
MBPP = """Write a function to find the shared elements from the given two lists.

Your code should pass these tests:

assert set(similar((3, 4), (5, 4))) == set((4,))
assert set(similar((1, 2), (5, 4))) == set()
"""


def test_all_forms_of_a_docstring_are_read() -> None:
    assert examples_of(HUMAN_EVAL) == (
        DoctestExample('longest(["a", "bc"])\n', "'bc'\n"),
        DoctestExample('longest(["a\\\\nb",\n         "cd"])\n', "'a\\\\nb'\n"),
        DoctestExample('kept = ["x"]\n', ""),
        DoctestExample("print(longest(kept)); print(2)\n", "x\n2\n"),
        DoctestExample(
            "longest([])\n", "Traceback (most recent call last):\n    ...\nValueError: no word\n", "ValueError: no word"
        ),
    )


@pytest.mark.parametrize(
    "question",
    [
        MBPP,
        MBPP.replace("assert", ">>> assert"),
        "What is 17 >>> 3?",
        "Write f. For example f(1) gives 2.",
        ">>> f(1) gives 2",
        ">>> f(1)",
        ">>> f(1)  # doctest: +SKIP\n2",
        ">>> f(1)  # doctest: +NO_SUCH_OPTION\n2",
        ">>> x = 5\n>>> y = f(x)",
        "",
    ],
)
def test_asserts_and_what_tells_nothing_are_none(question: str) -> None:
    assert examples_of(question) == ()


@pytest.mark.parametrize(
    "question",
    [
        ">>> f(1)\n2",
        ">>>f(1)\n2",
        ">>> f(1)\r\n2\r\n",
        'def f(x):\n    """>>> f(1)\n    2"""',
        "def f(x):\n    '''\n    >>> f(1)\n    2\n    '''",
        "```\n>>> f(1)\n2\n```\nBe quick.",
        "    >>> f(0)\n  badly set\n\n>>> f(1)\n2",
    ],
)
def test_where_an_example_ends(question: str) -> None:
    assert examples_of(question) == (DoctestExample("f(1)\n", "2\n"),)


def test_a_line_that_states_its_result_is_one() -> None:
    assert examples_of(">>> f(1) == 2\n>>> f(2) == 3\n>>> f(2) < 3") == (
        DoctestExample("f(1) == 2\n", "True\n"),
        DoctestExample("f(2) == 3\n", "True\n"),
        DoctestExample("f(2) < 3\n", ""),
    )


PLAIN = st.recursive(
    st.integers() | st.booleans() | st.text(string.ascii_letters + "'\"\n ", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.integers(), inner),
    max_leaves=6,
)


@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=5), st.integers(0, 8))
def test_every_pair_that_is_shown_is_found(pairs: list[tuple[object, object]], indent: int) -> None:
    lines = [line for given, wanted in pairs for line in (f">>> f({given!r})", repr(wanted))]
    question = "Write f:\n\n" + "\n".join(" " * indent + line for line in lines) + "\n\nDo it well."
    assert examples_of(question) == tuple(DoctestExample(f"f({given!r})\n", f"{wanted!r}\n") for given, wanted in pairs)


@given(st.text() | st.text('>.` \n"fx(1)=', max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    found = examples_of(text)
    assert not found or any(one.tells for one in found)
