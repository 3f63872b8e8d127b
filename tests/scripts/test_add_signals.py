"""The script that adds signals to a collection: a second draft of each row, asked for once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_pair import INTERN, MENTOR, MODELS, respond, write_problems
from stub import Stub

from tandem.collection.added_signals import AGREEMENT, SECOND_DRAFTS
from tandem.storage.jsonl import read_lines
from tandem.training.data import read_collection

SCRIPT = Path(__file__).parents[2] / "scripts" / "add_signals.py"

pytestmark = pytest.mark.slow


async def run(*command: str, code: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, complained = await process.communicate()
    assert process.returncode == code, complained.decode()
    return complained.decode()


async def test_second_drafts_are_asked_for_once_and_come_into_the_table(tmp_path: Path) -> None:
    own, out = write_problems(tmp_path / "own.jsonl", 3), tmp_path / "out"
    async with Stub(respond=respond, models=MODELS) as stub:
        pair = ("--mentor", MENTOR, "--mentor-endpoint", stub.url, "--intern", INTERN, "--intern-endpoint", stub.url)
        collect = ("-m", "tandem", "collect", *pair, "--dataset", str(own), "--effort", "none,low=10,answer")
        await run(*collect, "--out", str(out))
        add = (str(SCRIPT), "agreement", str(out), "--intern", INTERN, "--intern-endpoint", stub.url)
        before = len(stub.chats)
        assert "6/6 rows" in await run(*add, "--dataset", str(own))
        asked = [chat.body for chat in stub.chats[before:]]
        assert len(asked) == 6 and {body["temperature"] for body in asked} == {0.7}
        assert all(body["model"] == INTERN and "seed" not in body for body in asked)
        assert len(list(read_lines(out / SECOND_DRAFTS))) == 6
        await run(*add, "--dataset", str(own))
        assert len(stub.chats) == before + 6
        await run(*collect, "--out", str(out))  # writes the table again
    rows = [row for row in read_collection(out)[0] if row["level"] != "answer"]
    assert len(rows) == 6 and all(set(row["signals"]["agreement"]["16"]) == set(AGREEMENT) for row in rows)
    assert not [name for row in rows for name in ("text", "insight") if name in row]


async def test_a_folder_without_a_collection_is_bad_usage(tmp_path: Path) -> None:
    add = ("agreement", str(tmp_path), "--intern", "m", "--intern-endpoint", "http://127.0.0.1:1/v1")
    assert "no collection.json" in await run(str(SCRIPT), *add, "--dataset", "gsm8k", code=2)
