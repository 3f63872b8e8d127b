"""Tests on public data sets whose files may not be committed: left out where the files are not, with one closing line.

A test names what it reads: ``@pytest.mark.public_data("bbh", "math500/train")``, a data set's default split or another.
Only what no package brings belongs here; what can be installed is required, and its tests fail without it.
"""

from __future__ import annotations

from functools import cache

import pytest

from tandem.datasets import load_card
from tandem.datasets.locations import locate

_PROPERTY = "public_data"  # of a report: the files that were missing
_LEFT_OUT = "left out"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", "public_data(*sets): reads public data sets that may not be committed (left out without them)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test out where a file that it reads is not here; nothing is fetched."""
    names = [name for mark in item.iter_markers("public_data") for name in mark.args]
    if missing := [file for file in map(_missing, names) if file]:
        item.user_properties.append((_PROPERTY, missing))
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """Count these apart from what is skipped, which -ra would list one by one."""
    return (_LEFT_OUT, "l", _LEFT_OUT.upper()) if report.skipped and _files(report) else None


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out and how to get it."""
    reports = terminalreporter.stats.get(_LEFT_OUT, [])
    files = sorted({file for report in reports for file in _files(report)})
    if files:
        count = f"{len(reports)} test{'' if len(reports) == 1 else 's'}"
        terminalreporter.write_line(
            f"{count} left out: public data that may not be committed is not here: {', '.join(files)}. Put the files "
            "into data/ or set TANDEM_DATA_DIR to their folder; `tandem datasets show NAME` says where to get them.",
            yellow=True,
        )


@cache
def _missing(name: str) -> str:
    """Return the file of a data set's split if it is not here, as "bbh (bbh.jsonl)", else ""."""
    of, _, part = name.partition("/")
    card, split = load_card(of).split(part or None)
    return "" if locate(card, split, fetch=False) else f"{card.name} ({card.splits[split].file})"


def _files(report: pytest.CollectReport | pytest.TestReport) -> list[str]:
    return dict(getattr(report, "user_properties", ())).get(_PROPERTY, [])
