"""Signals that are added to collected rows afterwards, each kind in a file beside the rows.

A line for each (problem, level, sample); they are joined to the rows on reading, and a repeated run computes only the
missing ones.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from tandem.collection.manifest import read_manifest
from tandem.collection.plan import Key
from tandem.collection.rows import DRAFT_LENGTHS, WHOLE, Folder, files, key_of, rounded
from tandem.costs import Rates
from tandem.errors import CapabilityError, TandemError
from tandem.insight import intern_view, trim
from tandem.ledger import Ledger
from tandem.models.base import Model, Reads, Request, cue
from tandem.models.call import Call
from tandem.models.logprobs import TokenStat
from tandem.runs.work import work_through
from tandem.spec import InsightMode, Sampling
from tandem.storage.jsonl import JsonlWriter, read_lines
from tandem.strategies.best_of import same_answer
from tandem.sufficiency.prompt_pass import MAX_TOKENS, insight_signals, prompt_text, published_signals
from tandem.sufficiency.rows import Row
from tandem.sufficiency.signals import NUMBER, draft_signals
from tandem.types import Problem

PROMPT_SIGNALS = "prompt_signals.jsonl"
SECOND_DRAFTS = "second_drafts.jsonl"


def join_added(rows: Iterable[Row], folder: Path) -> list[dict[str, Any]]:
    joined = [dict(row) for row in rows]
    for name in (PROMPT_SIGNALS, SECOND_DRAFTS):
        found = _lines(folder / name)
        for row in joined:
            if (line := found.get(key_of(row))) is not None:
                row["signals"] = {**row["signals"], **line["signals"]}
    return joined


def read_raw(source: Path) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """Return the raw rows of a collection folder, with the signals added to them, and its manifest.

    None if the folder has no raw rows. Raises TandemError for a damaged manifest.
    """
    manifest = read_manifest(source)
    if manifest is None or not files(source, "rows"):
        return None
    return join_added(Folder(source, write=False).rows(), source), manifest


def _lines(path: Path) -> dict[Key, dict[str, Any]]:
    return {key_of(line): line for line in read_lines(path)} if path.exists() else {}


async def add_signals(
    rows: Iterable[Row],
    path: Path,
    make: Callable[[Row], Awaitable[Mapping[str, Any]]],
    *,
    concurrency: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the line that `make` returns for each row missing in `path`; return the number of failed rows.

    Rows of the mentor's own answer have no draft and are skipped, as are rows of hints. A CapabilityError ends the run;
    another TandemError fails only its row.
    """
    done = _lines(path).keys()
    missing = [row for row in rows if "insight" in row and key_of(row) not in done]
    failed = ended = 0
    with JsonlWriter(path) as writer:

        async def settle(row: Row, line: Mapping[str, Any] | TandemError) -> None:
            nonlocal failed, ended
            if isinstance(line, CapabilityError):
                raise line
            if isinstance(line, TandemError):
                failed += 1
                return
            writer.write({**key_of(row)._asdict(), **line})
            ended += 1
            if progress:
                progress(ended, len(missing))

        await work_through(missing, make, settle, concurrency=concurrency)
    return failed


def prompt_pass(
    problems: Mapping[str, Problem], intern: Model, *, top_logprobs: int = 20
) -> Callable[[Row], Awaitable[dict[str, Any]]]:
    """Return the function that computes the ``published`` and ``insight`` signals of a row.

    Only a few passes run concurrently: they can exhaust a server's memory. Raises CapabilityError for an intern that
    cannot return prompt log-probabilities.
    """
    if not isinstance(intern, Reads):
        raise CapabilityError(f"{intern.spec.name} cannot return the log-probabilities of a prompt; serve it with vLLM")

    async def make(row: Row) -> dict[str, Any]:
        question, insight = problems[row["problem"]].question, trim(row["insight"])
        reading = await intern.read(prompt_text(question, insight), top_logprobs=top_logprobs, max_tokens=MAX_TOKENS)
        signals = {
            "published": published_signals(reading.stats),
            "insight": insight_signals(reading, question, insight),
        }
        kept = {part: rounded(found) for part, found in signals.items()}
        return {"read_tokens": reading.usage.prompt, "signals": kept}

    return make


TEMPERATURE = 0.7  # as self-consistency samples (arXiv 2203.11171)
_TOP = 2  # of the second only the chosen tokens are used; more would not be worth the server's time


def second_draft(
    problems: Mapping[str, Problem], intern: Model, mode: InsightMode, *, max_tokens: int
) -> Callable[[Row], Awaitable[dict[str, Any]]]:
    """Return the function that samples a second answer to a row's prompt and computes its ``agreement`` signals.

    `mode` and `max_tokens` are those of the collection. The line keeps the answer, which is private.
    """

    async def make(row: Row) -> dict[str, Any]:
        problem, insight = problems[row["problem"]], trim(row["insight"])
        messages, prefix = intern_view(problem, insight, mode)
        request = Request(
            messages=messages,
            purpose="probe",
            max_tokens=max_tokens,
            sampling=Sampling(temperature=TEMPERATURE),
            prefix=prefix,
            top_logprobs=_TOP,
            affinity=problem.id,
            cue=cue(intern.spec, problem.question, problem.reference, "intern", row["insight_tokens"]),
        )
        call = await Call(intern, request, "intern", Ledger(), read_tokens=row["insight_tokens"]).complete()
        begun = prefix or ""
        first, agreed = row["text"].removeprefix(begun), same_answer(problem, row["text"], begun + call.text)
        found = {
            str(n): agreement_signals(
                intern.cut(first, n), intern.cut(call.text, n), call.stats[:n], ended=call.tokens <= n
            )
            for n in DRAFT_LENGTHS
        }
        found[WHOLE] = agreement_signals(first, call.text, call.stats, ended=True, same_answer=agreed)
        signals = {"agreement": {length: rounded(own) for length, own in found.items()}}
        return {"completion_tokens": call.tokens, "text": call.text, "signals": signals}

    return make


AGREEMENT = (
    "agreement_prefix",
    "agreement_words",
    "agreement_numbers",
    "agreement_answer",
    "second_log_perplexity",
    "second_least_likely",
    "second_length",
)
_WORD = re.compile(r"\w+|[^\w\s]")
_OF_SECOND = ("log_perplexity", "least_likely", "length")


def agreement_signals(
    first: str, second: str, stats: Sequence[TokenStat], *, ended: bool, same_answer: bool | None = None
) -> dict[str, float]:
    """Return how far two drafts agree, and the intern's confidence in the second, with token statistics `stats`.

    ``agreement_prefix``: share of the longer draft's words up to the first that differs. ``agreement_words`` and
    ``agreement_numbers``: twice the shared ones over all (Dice, with repetitions; 1 where neither has one).
    ``agreement_answer``: 1 or 0 where both give an answer that can be compared (`same_answer`), else 0.5. The
    second's log-perplexity, least likely token and log(1 + tokens) are as in `signals`.
    """
    words, others = _WORD.findall(first), _WORD.findall(second)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, others, strict=False)))
    of_second = draft_signals(stats, ended=ended, names=_OF_SECOND)
    return {
        "agreement_prefix": shared / max(len(words), len(others), 1),
        "agreement_words": _dice(words, others),
        "agreement_numbers": _dice(NUMBER.findall(first), NUMBER.findall(second)),
        "agreement_answer": 0.5 if same_answer is None else float(same_answer),
        **{f"second_{name}": value for name, value in of_second.items()},
    }


def second_cost(intern: Rates, row: Mapping[str, Any], draft: str) -> float:
    """Return the cost of a collected row's second draft: its tokens only, as both share one prompt pass."""
    written = round(math.expm1(row["signals"]["agreement"][draft]["second_length"]))
    prompt = row["prompt_tokens"]
    return intern.cost(prompt, prompt, written, discarded=True) - intern.cost(prompt, prompt, 0, discarded=True)


def _dice(one: Sequence[str], other: Sequence[str]) -> float:
    total = len(one) + len(other)
    return 2 * (Counter(one) & Counter(other)).total() / total if total else 1.0
