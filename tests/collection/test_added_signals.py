"""Adding signals to collected rows: nothing is asked twice, whenever it is stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tandem.collection.added_signals import (
    AGREEMENT,
    PROMPT_SIGNALS,
    SECOND_DRAFTS,
    add_signals,
    key_of,
    prompt_pass,
    read_raw,
    second_draft,
)
from tandem.errors import CapabilityError, EndpointError
from tandem.models.base import Reading
from tandem.models.fake import FakeModel, Script
from tandem.storage.jsonl import read_lines
from tandem.sufficiency.prompt_pass import INSIGHT, PUBLISHED, insight_signals, prompt_text, published_signals
from tandem.types import Problem

PROBLEMS = {f"q-{k}": Problem.from_text(f"What is {k} and {k} ?", task="math", id=f"q-{k}") for k in range(6)}


class Failing(FakeModel):
    """A fake whose readings fail after a while."""

    left = 0
    read_texts: list[str]

    async def read(self, text: str, *, top_logprobs: int = 20, max_tokens: int | None = None) -> Reading:
        if self.left <= 0:
            raise EndpointError("out of memory")
        self.left -= 1
        self.read_texts.append(text)
        return await super().read(text, top_logprobs=top_logprobs, max_tokens=max_tokens)


def rows() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for problem in PROBLEMS:
        none = {"insight": "", "insight_tokens": 0, "text": "The sum is \\boxed{4}", "signals": {}}
        made.append({"problem": problem, "level": "none", **none})
        low = {"insight": "Goal: add them", "insight_tokens": 3, "signals": {"16": {"length": 1.0}}}
        made.append({"problem": problem, "level": "low", "text": "It is \\boxed{4}", **low})
        made.append({"problem": problem, "level": "answer", "correct": True})
    return made


def intern(left: int) -> Failing:
    model = Failing()
    model.left, model.read_texts = left, []
    return model


async def test_what_is_missing_is_asked_once_however_often_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / PROMPT_SIGNALS
    texts: list[str] = []
    for left in (5, 4, 99):
        model = intern(left)
        failed = await add_signals(rows(), path, prompt_pass(PROBLEMS, model))
        texts += model.read_texts
        assert failed == max(12 - len(texts), 0)
    expected = [prompt_text(PROBLEMS[r["problem"]].question, r["insight"]) for r in rows() if "insight" in r]
    assert sorted(texts) == sorted(expected)
    lines = list(read_lines(path))
    assert len(lines) == 12 == len({key_of(line) for line in lines})
    with path.open("ab") as file:
        file.truncate(path.stat().st_size - 30)  # the last line was cut short by a kill
    model = intern(99)
    assert await add_signals(rows(), path, prompt_pass(PROBLEMS, model)) == 0
    assert len(model.read_texts) == 1


async def test_rows_are_joined_with_what_was_added_to_each(tmp_path: Path) -> None:
    made = rows()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    manifest = {"mentor": "fake", "intern": "fake", "ladder": "none,low,answer"}
    (tmp_path / "collection.json").write_text(json.dumps(manifest))
    await add_signals(made[:3], tmp_path / PROMPT_SIGNALS, prompt_pass(PROBLEMS, FakeModel()))
    await add_signals(made[1:4], tmp_path / SECOND_DRAFTS, second_draft(PROBLEMS, FakeModel(), "gpra", max_tokens=99))
    found = read_raw(tmp_path)
    assert found is not None and found[1] == manifest
    joined = found[0]
    assert joined[2] == made[2] and joined[4:] == made[4:]
    assert "agreement" not in joined[0]["signals"] and "published" not in joined[3]["signals"]
    reading = await FakeModel().read(prompt_text(PROBLEMS["q-0"].question, "Goal: add them"))
    signals = joined[1]["signals"]
    assert signals["16"] == {"length": 1.0}
    assert signals["published"] == pytest.approx(published_signals(reading.stats), abs=1e-5)
    expected = insight_signals(reading, PROBLEMS["q-0"].question, "Goal: add them")
    assert signals["insight"] == pytest.approx(expected, abs=1e-5)
    assert set(signals["published"]) == set(PUBLISHED) and set(signals["insight"]) == set(INSIGHT)
    assert set(signals["agreement"]) == {"16", "32", "64", "128", "all"}
    assert all(set(own) == set(AGREEMENT) for own in signals["agreement"].values())


async def test_a_second_draft_is_compared_with_the_first_without_what_both_were_given() -> None:
    model = FakeModel()
    model.answer = lambda request: "and so it is \\boxed{4}"
    (row,) = [row for row in rows() if row["problem"] == "q-1" and row["level"] == "low"]
    for mode, text in (("gpra", "and so it is \\boxed{4}"), ("prefix", "Goal: add them and so it is \\boxed{4}")):
        line = await second_draft(PROBLEMS, model, mode, max_tokens=99)(row | {"text": text})  # type: ignore[arg-type]
        whole, short = line["signals"]["agreement"]["all"], line["signals"]["agreement"]["16"]
        assert whole["agreement_words"] > 0.9 and whole["agreement_answer"] == 1.0
        assert short["agreement_answer"] == 0.5  # of a cut draft nobody asks for the answer
    other = await second_draft(PROBLEMS, model, "gpra", max_tokens=99)(row | {"text": "Surely it is \\boxed{5}"})
    assert other["signals"]["agreement"]["all"]["agreement_answer"] == 0.0


async def test_an_intern_that_cannot_read_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Deaf:
        spec = FakeModel().spec

    with pytest.raises(CapabilityError, match="fake"):
        prompt_pass(PROBLEMS, Deaf())  # type: ignore[arg-type]
    silent = FakeModel(Script(logprobs=False))
    with pytest.raises(CapabilityError, match="gives no log-probabilities of a prompt"):
        await add_signals(rows(), tmp_path / PROMPT_SIGNALS, prompt_pass(PROBLEMS, silent))
    assert list(read_lines(tmp_path / PROMPT_SIGNALS)) == []


def test_a_folder_without_raw_rows_has_none(tmp_path: Path) -> None:
    assert read_raw(tmp_path) is None
