"""Adding prompt signals to collected rows: nothing is read twice, whenever it is stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tandem.errors import CapabilityError, EndpointError
from tandem.evaluation.jsonl import read_lines
from tandem.evaluation.prompt_signals import FILE, add_prompt_signals, key_of, read_raw
from tandem.models.base import Reading
from tandem.models.fake import FakeModel, Script
from tandem.sufficiency.reading import INSIGHT, PUBLISHED, insight_signals, prompt_text, published_signals

QUESTIONS = {f"q-{k}": f"What is {k} and {k} ?" for k in range(6)}


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
    for problem in QUESTIONS:
        made.append({"problem": problem, "level": "none", "insight": "", "signals": {}})
        signals = {"16": {"length": 1.0}}
        made.append({"problem": problem, "level": "low", "insight": "Goal: add them", "signals": signals})
        made.append({"problem": problem, "level": "answer", "correct": True})
    return made


def intern(left: int) -> Failing:
    model = Failing()
    model.left, model.read_texts = left, []
    return model


async def test_what_is_missing_is_read_once_however_often_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / FILE
    texts: list[str] = []
    for left in (5, 4, 99):
        model = intern(left)
        failed = await add_prompt_signals(rows(), QUESTIONS, model, path)
        texts += model.read_texts
        assert failed == max(12 - len(texts), 0)
    assert sorted(texts) == sorted(prompt_text(QUESTIONS[r["problem"]], r["insight"]) for r in rows() if "insight" in r)
    lines = list(read_lines(path))
    assert len(lines) == 12 == len({key_of(line) for line in lines})
    with path.open("ab") as file:
        file.truncate(path.stat().st_size - 30)  # the last line was cut short by a kill
    model = intern(99)
    assert await add_prompt_signals(rows(), QUESTIONS, model, path) == 0
    assert len(model.read_texts) == 1


async def test_rows_are_joined_with_what_their_own_pass_says(tmp_path: Path) -> None:
    made = rows()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    (tmp_path / "collection.json").write_text('{"ladder": "none,low,answer"}')
    await add_prompt_signals(made[:3], QUESTIONS, FakeModel(), tmp_path / FILE)
    found = read_raw(tmp_path)
    assert found is not None and found[1] == {"ladder": "none,low,answer"}
    joined = found[0]
    assert joined[2] == made[2] and joined[3:] == made[3:]
    reading = await FakeModel().read(prompt_text(QUESTIONS["q-0"], "Goal: add them"))
    signals = joined[1]["signals"]
    assert signals["16"] == {"length": 1.0}
    assert signals["published"] == pytest.approx(published_signals(reading.stats), abs=1e-5)
    expected = insight_signals(reading, QUESTIONS["q-0"], "Goal: add them")
    assert signals["insight"] == pytest.approx(expected, abs=1e-5)
    assert set(signals["published"]) == set(PUBLISHED) and set(signals["insight"]) == set(INSIGHT)


async def test_an_intern_that_cannot_read_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Deaf:
        spec = FakeModel().spec

    with pytest.raises(CapabilityError, match="fake"):
        await add_prompt_signals(rows(), QUESTIONS, Deaf(), tmp_path / FILE)  # type: ignore[arg-type]
    assert not (tmp_path / FILE).exists()
    silent = FakeModel(Script(logprobs=False))
    with pytest.raises(ExceptionGroup) as group:
        await add_prompt_signals(rows(), QUESTIONS, silent, tmp_path / FILE)
    assert all(isinstance(error, CapabilityError) for error in group.value.exceptions)
    assert list(read_lines(tmp_path / FILE)) == []


def test_a_folder_without_raw_rows_has_none(tmp_path: Path) -> None:
    assert read_raw(tmp_path) is None
