"""Reusing another collection's rows that do not depend on the insight, so that they are not paid for twice.

These are the rows at `none`, at `answer`, of hints and of budgets, and the mentor's complete answers: all that
collections with other levels, or in the other insight mode, have in common.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tandem.collection.manifest import comparable, read_manifest
from tandem.collection.plan import Key
from tandem.collection.rows import Folder, files, key_of, shard_file
from tandem.collection.texts import Texts
from tandem.errors import UsageError
from tandem.ladder import ANSWER
from tandem.runs.manifest import differences, name_differences
from tandem.storage.jsonl import JsonlWriter, read_lines
from tandem.sufficiency.rows import BUDGET, HINT

_OF_INSIGHTS = {"ladder", "insight_mode"}


def reuse(source: Path, out: Path, manifest: Mapping[str, Any], wanted: Collection[Key]) -> int:
    """Copy the rows of `wanted` and the answers that are in `source` but not in `out`; return the number of rows.

    `manifest` is that of `out`, locked by the caller. Raises UsageError for a folder without a collection, or with one
    of another pair or other settings, naming the difference.
    """
    theirs = read_manifest(source)
    if theirs is None:
        raise UsageError(f"{source} has no collection to reuse")
    here = {name: _bare(value) for name, value in comparable(theirs).items() if name not in _OF_INSIGHTS}
    if found := differences(here, {name: _bare(manifest[name]) for name in here}):
        raise UsageError(f"{source} was collected with another {name_differences(found)}; nothing can be reused")
    folder, whole = Folder(out), Texts.known(source)
    # An answer that was started here is finished here: two generations may differ.
    begun = {line["problem"] for path in files(out, "texts") for line in read_lines(path) if line["source"] == "answer"}
    problems = {key.problem for key in wanted} - begun
    copied = 0
    try:
        for row in Folder(source, write=False).rows():
            key = key_of(row)
            fresh = key in wanted and key not in folder and (key.level == "none" or key.problem not in begun)
            if fresh and without_insight(key):
                folder.add(row)
                copied += 1
    finally:
        folder.close()
    with JsonlWriter(shard_file(out, "texts", None)) as texts:
        for path in files(source, "texts"):
            for line in read_lines(path):
                name = line["problem"], line["source"]
                if line["source"] == "answer" and line["problem"] in problems and name in whole:
                    texts.write(line)
    return copied


def without_insight(key: Key) -> bool:
    """Whether a row does not depend on the levels and the insight mode."""
    return key.level in ("none", ANSWER) or key.level.startswith((HINT, BUDGET))


def _bare(value: Any) -> Any:
    """Return the specs of both models without the mode, anything else unchanged."""
    if not isinstance(value, Mapping):
        return value
    return {k: _bare(v) for k, v in value.items() if k != "insight_mode"}
