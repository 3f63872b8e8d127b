"""What the entropy of the top k log-probabilities leaves out: the estimator's gap to the whole vocabulary's entropy.

python benchmarks/entropy.py [--model qwen2.5-coder-0.5b] [--datasets gsm8k,mbpp] [--problems 20] [--tokens 256]
    [--k 5,10,20] [--draft 64] [--allow-code-execution] [--json]

The model answers each problem greedily, as an intern without insight would (Transformers, in process). It then reads
its answers once more, and from the logits of every answer token come the entropy over the whole vocabulary, in nats,
and the estimate of `tandem.models.logprobs` from the k best. Printed are for each k

- `gap` per token: entropy minus estimate, which is the lower end of what the k best allow: mean, median, 99 % quantile;
- `slack` per token: the upper end minus the entropy;
- of the drafts (the first `--draft` tokens) and of the whole answers: the gap of the mean entropy, its correlation with
  that of the whole vocabulary, the share of all pairs of answers that change their order, and, by data set, the AUROC
  of the mean entropy for right against wrong beside what the whole vocabulary gives.

Code is judged only with `--allow-code-execution`, in a sandbox; a set with only right or only wrong answers, or without
judgements, has no AUROC. The batches of a GPU or of bf16 are not reproducible to the last bit; the figures move little.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.datasets import load_dataset
from tandem.grading import close_graders, grade, open_sandbox
from tandem.insight import answer_messages
from tandem.models.base import Request
from tandem.models.catalog import find
from tandem.models.logprobs import TokenStat, token_stat
from tandem.models.transformers import TransformersModel
from tandem.models.transformers.load import Loaded, load
from tandem.models.weights import pull
from tandem.spec import ModelSpec
from tandem.sufficiency.signals import draft_signals
from tandem.types import Problem

SIGNALS = ("entropy_mean", "entropy_std", "entropy_max", "entropy_trend")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `entropy` is the whole vocabulary's by token, `stats` the estimates by k. `right`: None, unjudged."""

    dataset: str
    right: bool | None
    entropy: NDArray[np.float64]
    stats: dict[int, list[TokenStat]]

    def signals(self, k: int | None, tokens: int | None) -> dict[str, float]:
        """Return the signals of the first `tokens` tokens, from the k best or (None) from the whole vocabulary."""
        stats = self.stats[k or max(self.stats)][:tokens]
        if k is None:
            true = self.entropy[:tokens]
            stats = [stat._replace(entropy=float(h), gap=0.0) for stat, h in zip(stats, true, strict=True)]
        return draft_signals(stats, ended=False, names=SIGNALS)


async def write(problems: list[Problem], path: str, given: argparse.Namespace) -> list[str]:
    model = TransformersModel(ModelSpec(name=given.model), path, dtype=given.dtype, max_batch=given.batch)
    requests = [Request(answer_messages(p), "answer", given.tokens) for p in problems]
    texts = [answer.text for answer in await asyncio.gather(*map(model.complete, requests))]
    await model.aclose()
    return texts


async def judge(problems: list[Problem], texts: list[str], given: argparse.Namespace) -> list[bool | None]:
    sandbox = open_sandbox("bwrap") if given.allow_code_execution else None
    rights = [await grade(p, text, sandbox=sandbox) for p, text in zip(problems, texts, strict=True)]
    close_graders()
    return rights


def read(loaded: Loaded, problem: Problem, text: str, ks: list[int]) -> tuple[Any, dict[int, list[TokenStat]]]:
    """Return the entropy of each token of an answer (array of floats, nats), and its statistics from the k best."""
    import torch

    messages = [{"role": m.role, "content": m.content} for m in answer_messages(problem)]
    prompt = loaded.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    head = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        ids = torch.tensor([head + answer], device=loaded.model.device)
        logits = loaded.model(ids, logits_to_keep=len(answer) + 1).logits[0, :-1]
        entropy, chosen, best = [], [], []
        for part, own in zip(logits.split(64), torch.tensor(answer).split(64), strict=True):  # float64 takes room
            logprobs = torch.log_softmax(part.cpu().double(), dim=-1)
            entropy.append(-(logprobs.exp() * logprobs).sum(-1))
            chosen += logprobs[torch.arange(len(own)), own].tolist()
            best += logprobs.topk(max(ks), dim=-1).values.tolist()
    size = logits.shape[-1]
    stats = {k: [token_stat(own, top[:k], size) for own, top in zip(chosen, best, strict=True)] for k in ks}
    return torch.cat(entropy).numpy(), stats


def spread(values: Any) -> dict[str, float]:
    """Return mean, median and 99 % quantile."""
    return {"mean": float(np.mean(values)), "median": float(np.median(values)), "q99": float(np.quantile(values, 0.99))}


def reordered(true: list[float], estimate: list[float]) -> float:
    """Return the share of pairs whose order differs."""
    pairs = list(itertools.combinations(zip(true, estimate, strict=True), 2))
    return sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in pairs) / len(pairs)


def auroc(answers: list[Answer], k: int | None, tokens: int | None) -> dict[str, float]:
    """Return by data set how well a high mean entropy tells a wrong answer from a right one."""
    from sklearn.metrics import roc_auc_score

    found = {}
    for name in dict.fromkeys(a.dataset for a in answers):
        of_set = [a for a in answers if a.dataset == name and a.right is not None]
        if len({a.right for a in of_set}) == 2:
            scores = [a.signals(k, tokens)["entropy_mean"] for a in of_set]
            found[name] = float(roc_auc_score([not a.right for a in of_set], scores))
    return found


def figures(answers: list[Answer], k: int, draft: int) -> dict[str, Any]:
    """Return the figures of one k."""
    from scipy.stats import pearsonr, spearmanr

    true = np.concatenate([a.entropy for a in answers])
    low = np.array([stat.entropy for a in answers for stat in a.stats[k]])
    high = low + np.array([stat.gap for a in answers for stat in a.stats[k]])
    found: dict[str, Any] = {"gap": spread(true - low), "slack": spread(high - true)}
    found["gap_share"] = float((true - low).sum() / true.sum())
    found["outside"] = float(np.mean((true < low - 1e-4) | (true > high + 1e-4)))
    for name, tokens in (("draft", draft), ("answer", None)):
        whole, ours = ([a.signals(which, tokens) for a in answers] for which in (None, k))
        columns = {s: ([w[s] for w in whole], [o[s] for o in ours]) for s in SIGNALS}
        means, estimates = columns["entropy_mean"]
        found[name] = {
            "gap": spread(np.subtract(means, estimates)),
            "pearson": float(pearsonr(means, estimates)[0]),
            "spearman": {s: float(spearmanr(*both)[0]) for s, both in columns.items()},
            "reordered": reordered(means, estimates),
            "auroc": auroc(answers, k, tokens),
            "auroc_whole_vocabulary": auroc(answers, None, tokens),
        }
    return found


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    names, ks = given.datasets.split(","), sorted(map(int, given.k.split(",")))
    of_set = {name: load_dataset(name, limit=given.problems, seed=0) for name in names}
    problems, sets = [p for each in of_set.values() for p in each], [n for n, each in of_set.items() for _ in each]
    path = str(pull(find(given.model)))
    texts = await write(problems, path, given)
    rights = await judge(problems, texts, given)
    loaded = load(ModelSpec(name=given.model), path, device=None, dtype=given.dtype)
    answers = [
        Answer(name, right, *read(loaded, problem, text, ks))
        for name, problem, text, right in zip(sets, problems, texts, rights, strict=True)
        if text
    ]
    entropies = np.concatenate([a.entropy for a in answers])
    return {
        "model": given.model,
        "answers": {n: sum(a.dataset == n for a in answers) for n in names},
        "right": {n: sum(a.right is True for a in answers if a.dataset == n) for n in names},
        "tokens": len(entropies),
        "entropy": spread(entropies),
        "k": {str(k): figures(answers, k, given.draft) for k in ks},
    }


def show(found: dict[str, Any], draft: int) -> None:
    whole = found["entropy"]
    print(f"{sum(found['answers'].values())} answers, {found['tokens']} tokens; right: {found['right']}")
    print(f"entropy: mean {whole['mean']:.4f}, median {whole['median']:.4f}, 99 % {whole['q99']:.3f} nats")
    for k, of_k in found["k"].items():
        print(f"k = {k}")
        for name in ("gap", "slack"):
            print(f"  {name:5} a token: " + ", ".join(f"{key} {value:.5f}" for key, value in of_k[name].items()))
        outside = f"; {of_k['outside']:.2%} of the tokens lie outside the bounds"
        print(f"  the gap is {of_k['gap_share']:.2%} of all entropy{outside}")
        for name, length in (("draft", f"first {draft}"), ("answer", "all")):
            part = of_k[name]
            print(f"  mean over {length} tokens: gap " + ", ".join(f"{a} {b:.5f}" for a, b in part["gap"].items()))
            print(f"    Pearson {part['pearson']:.5f}, pairs reordered {part['reordered']:.2%}, Spearman ", end="")
            print(", ".join(f"{a.removeprefix('entropy_')} {b:.4f}" for a, b in part["spearman"].items()))
            for set_, area in part["auroc"].items():
                print(f"    AUROC {set_}: {area:.3f}, whole vocabulary {part['auroc_whole_vocabulary'][set_]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name of the catalog")
    parser.add_argument("--datasets", default="gsm8k,mbpp")
    parser.add_argument("--problems", type=int, default=20, help="of each data set")
    parser.add_argument("--tokens", type=int, default=256, help="of an answer, at most")
    parser.add_argument("--k", default="5,10,20")
    parser.add_argument("--draft", type=int, default=64, help="tokens of a draft")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--allow-code-execution", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(measure(given))
    if given.json:
        print(json.dumps(found))
    else:
        show(found, given.draft)


if __name__ == "__main__":
    main()
