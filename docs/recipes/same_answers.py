"""Compare the answers that lm_eval extracted from a server's texts with those of `tandem run`, problem by problem.

    python docs/recipes/same_answers.py scores/tandem/samples_gsm8k_local_*.jsonl runs/here

SAMPLES is what `lm_eval --log_samples` wrote, RUN the folder of a run over the same problems. Problems are
matched by the messages sent. Exits with 1 if an answer or a verdict differs although the texts are the same: then one
of the two extractions is wrong. Texts may differ, because batches of another size round differently; they are listed.
Exits with 2 if nothing can be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from tandem.errors import TandemError
from tandem.runs.regrade import RecordsToGrade
from tandem.types import Message

_NUMBER = re.compile(r"(?<!\w)(?:(?<![)}])-)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/[1-9]\d*)?")
Sent = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Read:
    """A text, the answer extracted from it, and whether that is correct (None: not graded)."""

    text: str
    answer: str | None
    right: bool | None


@dataclass(frozen=True, slots=True)
class Pair:
    """One problem, as answered on both sides."""

    problem: str
    theirs: Read
    ours: Read

    @property
    def same_text(self) -> bool:
        """Whether both have the same text, up to leading and trailing whitespace."""
        return self.theirs.text.strip() == self.ours.text.strip()

    @property
    def same_answer(self) -> bool:
        """Whether both extracted the same number, or both none."""
        return value(self.theirs.answer) == value(self.ours.answer)

    @property
    def same_verdict(self) -> bool:
        """Whether both gave the same verdict, if both graded."""
        return None in (self.theirs.right, self.ours.right) or self.theirs.right == self.ours.right


def value(answer: str | None) -> Fraction | None:
    """Return the last number of an answer ("18", "$1,080.00", "18 eggs"), or None."""
    found = _NUMBER.findall(answer or "")
    return Fraction(found[-1].replace(",", "")) if found else None


def samples(path: Path) -> Iterator[tuple[Sent, Read]]:
    """Yield the messages and answers in lm_eval's log. Raises UsageError for rows that lm_eval did not write."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            prompt = row["arguments"]["gen_args_0"]["arg_0"]
            text, answer = row["resps"][0][0], row["filtered_resps"][0]
            right = bool(row["exact_match"]) if "exact_match" in row else None
            yield _sent(prompt), Read(text, answer, right)
        except (ValueError, LookupError, TypeError) as error:
            raise click.UsageError(f"{path}:{number} is no sample of a generating task ({error!r})") from None


def _sent(prompt: Any) -> Sent:
    """Return the messages of a logged prompt: a conversation is logged as a list with its JSON, a text as it is."""
    if isinstance(prompt, str):
        return (("user", prompt),)
    return tuple((message["role"], message["content"]) for message in json.loads(prompt[0]))


def records(folder: Path) -> Iterator[tuple[Sent, str, Read]]:
    """Yield messages, problem id and answer of a run's records. Raises TandemError if the data set is missing."""
    source = RecordsToGrade(folder)
    problems = source.problems()
    for record in source.records():
        problem = problems.get(record["problem"])
        if problem is not None and record["error"] is None:
            yield _messages(problem.messages), problem.id, Read(record["text"], record["answer"], record["correct"])


def _messages(messages: tuple[Message, ...]) -> Sent:
    return tuple((message.role, message.content) for message in messages)


def pairs(samples_file: Path, run: Path) -> tuple[list[Pair], int]:
    """Return the problems that both have, sorted by id, and how many only one side has or could answer."""
    theirs, ours = dict(samples(samples_file)), {sent: (problem, read) for sent, problem, read in records(run)}
    both = [Pair(problem, theirs[sent], read) for sent, (problem, read) in ours.items() if sent in theirs]
    return sorted(both, key=lambda pair: pair.problem), len(theirs.keys() ^ ours.keys())


@click.command()
@click.argument("samples_file", metavar="SAMPLES", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("run", type=click.Path(path_type=Path, exists=True))
def main(samples_file: Path, run: Path) -> None:
    """Say for each problem whether lm_eval's SAMPLES and the records of RUN agree."""
    try:
        found, alone = pairs(samples_file, run)
    except TandemError as error:
        raise click.UsageError(str(error)) from None
    if not found:
        raise click.UsageError("no problem was asked in the same words by both")
    for pair in found:
        click.echo(_line(pair))
    wrong = [pair for pair in found if pair.same_text and not (pair.same_answer and pair.same_verdict)]
    click.echo(
        f"{len(found)} problems: the same text {sum(p.same_text for p in found)}, "
        f"the same answer {sum(p.same_answer for p in found)}, the same verdict {sum(p.same_verdict for p in found)}; "
        f"right: lm_eval {sum(bool(p.theirs.right) for p in found)}, tandem {sum(bool(p.ours.right) for p in found)}"
        + (f"; {alone} only on one side" if alone else "")
    )
    if wrong:
        click.echo(f"read differently out of the same text: {', '.join(pair.problem for pair in wrong)}")
        raise SystemExit(1)


def _line(pair: Pair) -> str:
    if pair.same_answer and pair.same_verdict:
        shown = f"agree on {_short(pair.ours.answer)}"
    elif pair.same_answer:
        shown = f"agree on {_short(pair.ours.answer)}, but lm_eval says {pair.theirs.right}, tandem {pair.ours.right}"
    else:
        shown = f"DIFFER: lm_eval {_short(pair.theirs.answer)}, tandem {_short(pair.ours.answer)}"
    if pair.same_text:
        return f"{pair.problem}  same text, {shown}"
    common = next((n for n, (a, b) in enumerate(zip(pair.theirs.text, pair.ours.text, strict=False)) if a != b), None)
    place = "one is longer" if common is None else f"from character {common}"
    return f"{pair.problem}  other text ({place}), {shown}"


def _short(answer: str | None) -> str:
    line = " ".join((answer or "nothing").split())
    return line if len(line) <= 40 else f"{line[:39]}…"


if __name__ == "__main__":
    main()
