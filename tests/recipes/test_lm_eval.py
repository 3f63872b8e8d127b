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


def test_multiple_choice_is_scored_by_the_interns_log_probabilities(recipes: Recipes, tmp_path: Path) -> None:
    model = f"base_url={recipes.server.url}/v1/completions,auth_token={recipes.keys['anyone']}"
    task = ("--tasks", "choice_local", "--include_path", str(RECIPES / "lm_eval"), "--log_samples")
    lm_eval(recipes, tmp_path, "intern", model, "--model", "local-completions", *task)
    (path,) = (tmp_path / "scores").rglob("samples_choice_local_*.jsonl")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(samples) == 12
    for sample in samples:
        head = f"Question: {sample['doc']['question']}\nAnswer:"
        scores = [float(score) for ((score, _),) in sample["resps"]]
        for choice, score in zip(sample["doc"]["choices"], scores, strict=True):
            whole = f"{head} {choice}"
            body = {"model": "intern", "prompt": whole, "echo": True, "logprobs": 1, "max_tokens": 1}
            given = recipes.server.post(body, "/v1/completions").json()["choices"][0]["logprobs"]
            behind = zip(given["token_logprobs"], given["text_offset"], strict=True)
            own = [logprob for logprob, offset in behind if len(head) <= offset < len(whole)]
            assert own and score == pytest.approx(sum(own), abs=1e-5)
        assert sample["acc"] == float(scores.index(max(scores)) == sample["doc"]["answer"])
