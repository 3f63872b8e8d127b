"""The programs on the page of recipes run as they stand there, and do what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import blocks
from recipes.conftest import Recipes
from serving import INSIGHT

pytestmark = [pytest.mark.recipes, pytest.mark.slow]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("plain.py", ["\\boxed{391}", "'input_tokens'", "mentor: {'prompt'"]),
        ("all.py", ["find the product", "['reasoning', 'text']", "\nintern\n5\n"]),
        ("lite.py", ["Goal: find the product", "\\boxed{391} 5\n", "answered by intern at level low"]),
    ],
)
def test_a_program_on_the_page(recipes: Recipes, title: str, said: list[str], tmp_path: Path) -> None:
    assert INSIGHT.startswith("Goal: find the product")
    (program,) = [block.text for block in blocks("recipes.md") if block.title == title]
    shown = recipes.page(tmp_path, program)
    for part in said:
        assert part in shown
