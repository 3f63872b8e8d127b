"""Files that users are sent: bounded in size, depth and expansion, each refused in one clear line."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tandem.cli.config_file import read_config
from tandem.collection.manifest import read_manifest
from tandem.datasets.formats import read_rows
from tandem.errors import TandemError, UsageError
from tandem.models.fake import FakeModel
from tandem.reports.comparison import read_compared
from tandem.runs.store import RunStore
from tandem.storage import formats, jsonl
from tandem.storage.formats import read_stamped

NESTED = '{"a":' * 900 + "1" + "}" * 900
DEEPER = "[" * 100_000


@pytest.fixture(params=["jsonl", "csv"])
def bomb(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A gzip file of some 300 kB with a line of 300 MB."""
    path = tmp_path / f"bomb.{request.param}.gz"
    head = b'{"question": "' if request.param == "jsonl" else b'question,answer\n"'
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9) as file:
        file.write(head)
        for _ in range(300):
            file.write(b"x" * 2**20)
    assert path.stat().st_size < 2**20
    return path


@pytest.mark.slow
def test_a_small_file_with_an_endless_line(bomb: Path) -> None:
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"bomb\.\w+\.gz:[12]: the line is longer than 64 MiB$"):
        list(read_rows(bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * jsonl.MOST_LINE  # a text decoder holds it a few times over


def test_lines_within_bounds_are_read_as_they_are() -> None:
    assert list(jsonl.bounded_lines(io.BytesIO(b"a\n\nb").readline, Path("x"))) == [b"a\n", b"\n", b"b"]


READERS: dict[str, Callable[[Path], object]] = {
    "any.json": read_stamped,
    "run.json": lambda path: RunStore.open_for_reading(path.parent),
    "collection.json": lambda path: read_manifest(path.parent),
    "compare.json": lambda path: read_compared(path.parent, instead="make it again"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("form", ["nested", "deeper", "large"])
def test_every_stamped_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str) -> None:
    if form == "large":
        monkeypatch.setattr(formats, "_MOST_BYTES", 2**20)
    text = {"nested": NESTED, "deeper": DEEPER, "large": json.dumps({"a": "x" * 2**20})}[form]
    (tmp_path / name).write_text(text)
    with pytest.raises(TandemError, match="is damaged: it") as caught:
        READERS[name](tmp_path / name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_file_of_options_and_a_script_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("mentor: " + "x" * 200_000)
    with pytest.raises(UsageError, match="larger than 100 kB"):
        list(read_config(path, ()))
    path.write_text(DEEPER)
    with pytest.raises(UsageError, match="nested too deeply"):
        list(read_config(path, ()))
    with pytest.raises(UsageError, match=r"script .* cannot be used"):
        FakeModel.from_name(f"fake:{path}")
