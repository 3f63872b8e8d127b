"""EleutherAI's harness against the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from docs.test_recipes import RECIPES, run, same_answers
from recipes.conftest import Recipes

pytestmark = [pytest.mark.recipes, pytest.mark.slow]
__all__ = ["run"]  # a fixture


def lm_eval(recipes: Recipes, folder: Path, model: str, arguments: str, *words: str) -> None:
    given = f"model={model},num_concurrent=2,max_retries=1,{arguments}"
    recipes.client(folder, "-m", "lm_eval", "run", "--model_args", given, "--output_path", "scores", *words)


def gsm8k(recipes: Recipes, run: Path, model: str) -> Path:
    """Score a model on a file like GSM8K's; return the logged samples."""
    url = f"base_url={recipes.server.url}/v1/chat/completions"
    task = ("--tasks", "gsm8k_local", "--include_path", str(RECIPES / "lm_eval"), "--log_samples")
    data = ("--metadata", json.dumps({"data_file": "gsm8k_test.jsonl.gz"}))
    lm_eval(recipes, run.parent, model, url, "--model", "local-chat-completions", "--apply_chat_template", *task, *data)
    (samples,) = (run.parent / "scores").rglob("samples_gsm8k_local_*.jsonl")
    return samples


def test_lm_eval_asks_what_a_run_asks(recipes: Recipes, run: Path) -> None:
    done = same_answers(gsm8k(recipes, run, "intern"), run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 problems: the same text 3, the same answer 3, the same verdict 3" in done.stdout
    assert "only on one side" not in done.stdout


def test_gsm8k_on_the_pair(recipes: Recipes, run: Path) -> None:
    rows = [json.loads(line) for line in gsm8k(recipes, run, "tandem").read_text().splitlines()]
    assert len(rows) == 3 and all("\\boxed{" in row["resps"][0][0] for row in rows)
