"""The programs on the page of recipes run as they stand there, and do what the page says."""

from __future__ import annotations

import json
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
        (
            "sdk.py",
            ["insight: Goal: find", "\nfirst I split", "total tokens: ", "calls Weather for Paris", "then: ", "Pens("],
        ),
        ("structured.py", ["['reasoning', 'text']", "insight: Goal: find", "streamed: first I", "for Paris", "Pens("]),
        ("fallbacks.py", ["['reasoning', 'message'] first I", "instead: first I split", "more room: first I split"]),
        ("lite.py", ["Goal: find the product", "\\boxed{391} 5\n", "answered by intern at level low"]),
    ],
)
def test_a_program_on_the_page(recipes: Recipes, title: str, said: list[str], tmp_path: Path) -> None:
    assert INSIGHT.startswith("Goal: find the product")
    (program,) = [block.text for block in blocks("recipes.md") if block.title == title]
    shown = recipes.page(tmp_path, program)
    for part in said:
        assert part in shown


def test_llm(recipes: Recipes, tmp_path: Path) -> None:
    (models,) = [block.text for block in blocks("recipes.md") if "model_id" in block.text]
    models = models.replace("http://127.0.0.1:8080", recipes.server.url).replace(
        "\n  api_base", "\n  api_key_name: here\n  api_base"
    )
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    recipes.client(tmp_path, "-m", "llm", "keys", "set", "here", "--value", recipes.keys["anyone"])

    def llm(*words: str) -> str:
        return recipes.client(tmp_path, "-m", "llm", *words, "-m", "tandem")

    assert "\\boxed{391}" in llm("What is 17*23?", "-u")
    assert "\\boxed{391}" in llm(
        "What is 17*23?", "-o", "reasoning_effort", "low", "-o", "max_tokens", "400", "--no-stream"
    )
    assert set(json.loads(llm("Ann has 3 boxes with 8 pens each.", "--schema", "pens int"))) == {"pens"}
    assert llm("What time is it?", "-T", "llm_time")
    (last,) = json.loads(llm_logs(recipes, tmp_path))
    assert last["tool_results"][0]["name"] == "llm_time" and "local_time" in last["tool_results"][0]["output"]


def llm_logs(recipes: Recipes, folder: Path) -> str:
    return recipes.client(folder, "-m", "llm", "logs", "--json", "-n", "1")
