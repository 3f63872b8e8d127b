"""Folders that this version cannot read: one line with the file, who wrote it and what to do; nothing is changed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import FAKES, Cli, dataset

from tandem import __version__
from tandem.paths import shipped

DATA = ("--dataset", "own.jsonl")
MINE = "mine"
RUN = ("run", *FAKES, *DATA, "--strategy", "fixed:low")
COMPARE = ("compare", *FAKES, *DATA, "--strategies", "mentor-only,intern-only")
COLLECT = ("collect", *FAKES, *DATA, "--effort", "none,low=10,answer")


@dataclass(frozen=True)
class Kind:
    """A file that says what is in its folder, a member that it must have, and the commands that read it."""

    file: str
    lacks: str
    commands: tuple[tuple[str, ...], ...]


KINDS = {
    "run": Kind(
        "r/run.json",
        "run",
        (
            *((*RUN, "--resume", "r"), (*RUN, "--out", "r"), ("report", "r"), ("runs", "show", "r")),
            *(("grade", "r"), ("sweep", "r"), ("demo", "--replay", "r"), ("runs", "diff", "r", "r")),
        ),
    ),
    "comparison": Kind("k/compare.json", "strategies", (("report", "k"), ("sweep", "k"), (*COMPARE, "--resume", "k"))),
    "run of a comparison": Kind("k/intern-only/run.json", "run", ((*COMPARE, "--resume", "k"),)),
    "collection": Kind(
        "c/collection.json",
        "mentor",
        (("train", "c", "--out", "t"), ("calibrate", "c"), ("signals", "c"), (*COLLECT, "--out", "c")),
    ),
    "classifier": Kind(
        f"{MINE}/card.json",
        "policy",
        ((*RUN, "--classifier", MINE, "--strategy", "tandem"), ("classifiers", "show", MINE)),
    ),
    "predictor": Kind(f"{MINE}/predictors/route.json", "heads", ((*RUN, "--strategy", f"route:{MINE}"),)),
    "blueprint": Kind(
        f"{MINE}/blueprints/gsm8k.json",
        "chosen",
        ((*RUN, "--strategy", f"blueprint:{MINE}"), ("blueprint", "show", f"{MINE}/blueprints/gsm8k.json")),
    ),
    "published": Kind(f"{MINE}/published.json", "trees", ((*RUN, "--strategy", f"published:{MINE}"),)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each kind of folder is when it is whole."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def folders(made: Path, cli: Cli, apart: Path) -> Path:
    """Whole folders of every kind, in the folder where the test stands."""
    dataset(apart / "own.jsonl", 3)
    if not (made / "r").exists():
        for words in ((*RUN, "--out", "r"), (*COMPARE, "--out", "k"), (*COLLECT, "--out", "c")):
            assert cli(*words).code == 0
            shutil.copytree(words[-1], made / words[-1])
        shutil.copytree(next(shipped("classifiers").glob("*+*")), made / MINE)
    shutil.copytree(made, apart, dirs_exist_ok=True)
    return apart


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder with its time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


def later(content: dict[str, Any], kind: Kind) -> str:
    return json.dumps(content | {"format": 99, "version": "9.1", "unheard": "of"})


def other(content: dict[str, Any], kind: Kind) -> str:
    return json.dumps({key: value for key, value in content.items() if key != kind.lacks} | {"version": "0.0.9"})


def anonymous(content: dict[str, Any], kind: Kind) -> str:
    return json.dumps({key: value for key, value in content.items() if key not in (kind.lacks, "version")})


def cut(content: dict[str, Any], kind: Kind) -> str:
    return json.dumps({"format": 1, "version": "0.0.9"} | content | {"version": "0.0.9"})[:-40]


def cut_early(content: dict[str, Any], kind: Kind) -> str:
    return '{\n  "form'


UPGRADE = r"has format 99 and .*; it was written by Tandem 9\.1: upgrade Tandem \(pip install --upgrade tandem-.*\), or"
OLDER = r"it was written by Tandem 0\.0\.9: read it with that version \(pip install tandem-reasoning==0\.0\.9\), or"
UNKNOWN = "it was written by an unknown version of Tandem: restore it from a copy, or"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (later, UPGRADE),
        (other, f"(lacks '|cannot be read: ).*; {OLDER}"),
        (anonymous, f"(lacks '|cannot be read: ).*; {UNKNOWN}"),
        (cut, f"is damaged: it is not JSON; {OLDER}"),
        (cut_early, f"is damaged: it is not JSON; {UNKNOWN}"),
    ],
    ids=["a later format", "an older version", "no version", "cut short", "cut at the start"],
)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_cannot_be_read_says_who_wrote_it_and_what_to_do_and_stays_as_it_is(
    folders: Path, cli: Cli, kind: Kind, change: Callable[[dict[str, Any], Kind], str], reason: str
) -> None:
    file = folders / kind.file
    file.write_text(change(json.loads(file.read_text()), kind))
    for words in kind.commands:
        before = state(folders)
        outcome = cli(*words)
        (line,) = outcome.err.splitlines()[-1:]
        assert outcome.code in (1, 2) and outcome.err.count("tandem: ") == 1, (words, outcome)
        assert re.fullmatch(rf"tandem: (?:{re.escape(str(folders))}/)?{re.escape(kind.file)} {reason} .*", line), words
        assert state(folders) == before, words


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_file_that_is_written_now_begins_with_its_format_and_this_version(folders: Path, kind: Kind) -> None:
    content = json.loads((folders / kind.file).read_text())
    if MINE in kind.file:
        return  # they were made before; the tests of their own write new ones
    assert list(content)[:2] == ["format", "version"] and content["version"] == __version__
