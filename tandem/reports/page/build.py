"""The page itself: plain files in this folder made one, with the data as JSON that no text in it can break out of."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tandem.reports.page.gather import ReportedProblem
from tandem.reports.page.records import Shown, clipped, detail, mark
from tandem.reports.run import one_line
from tandem.storage.files import write_whole

# In the order in which they need each other; together they become one module.
_SCRIPTS = (
    *("dom.js", "numbers.js", "data.js", "theme.js", "header.js", "readout.js", "labels.js", "plot.js", "frontier.js"),
    *("table.js", "levels.js", "reliability.js", "detail.js", "problems.js", "main.js"),
)
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[a-z]+\.js";\n', re.M)
_EXPORT = re.compile(r"^export (?=(?:const|let|function|class) )", re.M)
_PART = 300_000  # characters of details that the page reads at once, when one of their problems is opened
_EXCERPT = 300  # characters of a question that can be searched without opening it


class PageData:
    """The page's data, of problems that are added one by one: what the list needs, and details in parts beside it."""

    def __init__(self, strategies: int) -> None:
        self._strategies = strategies
        self._list: dict[str, list[Any]] = {"ids": [], "excerpts": [], "marks": [], "starts": []}
        self.parts: list[str] = []
        self._fresh()

    def add(self, problem: ReportedProblem) -> None:
        if self._size > _PART:
            self._close()
        if not self._open:
            self._list["starts"].append(len(self._list["ids"]))
        question, records = problem.question or "", problem.records
        self._list["ids"].append(problem.id)
        self._list["excerpts"].append(" ".join(question[: 2 * _EXCERPT].split())[:_EXCERPT])
        self._list["marks"].append("".join(mark(records.get(place)) for place in range(self._strategies)))
        first = next(iter(records.values()), {})
        reference = first.get("reference")
        self._open.append(
            {
                "question": self._keep(clipped(question)) if question else None,
                "reference": None if reference is None else clipped(reference, 2000, 0),
                "task": str(first.get("task") or "")[:40],
                "records": {place: detail(record, self._keep) for place, record in records.items()},
            }
        )
        self._size += 400 * len(records)

    def listed(self) -> dict[str, Any]:
        self._close()
        return self._list

    def _keep(self, text: Shown) -> int:
        """Store a text and return its number: strategies that share a call share its text."""
        key = text if isinstance(text, str) else tuple(text)
        place = self._places.setdefault(key, len(self._texts))
        if place == len(self._texts):
            self._texts.append(text)
            self._size += len(text) if isinstance(text, str) else len(text[0]) + len(text[2])
        return place

    def _close(self) -> None:
        if self._open:
            self.parts.append(_json({"texts": self._texts, "problems": self._open}))
        self._fresh()

    def _fresh(self) -> None:
        self._texts: list[Shown] = []
        self._places: dict[Any, int] = {}
        self._open: list[dict[str, Any]] = []
        self._size = 0


def write_page(path: Path, title: str, figures: Mapping[str, Any], data: PageData) -> None:
    """Write the page in one file. Raises TandemError if it cannot be written.

    `figures` are those of `gather.figures`, or of a run; whatever is text in them may be hostile.
    """
    blocks = [_block("data", _json({**figures, "problems": data.listed()}))]
    blocks += [_block(f"part-{i}", part) for i, part in enumerate(data.parts)]
    style, script = _asset("style.css"), bundle(_SCRIPTS)
    filled = {
        "TITLE": html.escape(one_line(title), quote=False),
        "POLICY": policy(style, script),
        "STYLE": style,
        "DATA": "\n".join(blocks),
        "SCRIPT": script,
    }
    pieces = re.split(r"<!--([A-Z]+)-->", _asset("page.html"))  # what is filled in is not looked through again
    write_whole(path, "".join(filled[piece] if i % 2 else piece for i, piece in enumerate(pieces)))


def policy(style: str, script: str) -> str:
    """Return the page's content security policy: this style and this script, and nothing from anywhere."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def bundle(names: Iterable[str]) -> str:
    """Return the scripts as one module: imports between them fall away, so each name may be used only once."""
    return "\n" + "\n".join(_EXPORT.sub("", _IMPORT.sub("", _asset(name))) for name in names)


def _json(value: Any) -> str:
    """Return JSON that can stand in a script element: ``<`` is escaped, so no tag or comment can begin in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _block(name: str, content: str) -> str:
    return f'<script type="application/json" id="{name}">{content}</script>'


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files("tandem.reports.page") / name).read_text(encoding="utf-8")
