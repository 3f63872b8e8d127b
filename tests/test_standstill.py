"""A test is run once more where the machine was stopped during it, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
import standstill

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

TESTS = """
    import os, subprocess, time
    from pathlib import Path

    def fails_first(name):
        seen = Path(name).exists()
        Path(name).touch()
        return not seen

    def test_that_is_stopped():
        began = time.monotonic()
        if fails_first("stopped"):
            subprocess.Popen(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 4; kill -CONT {os.getpid()}"]).wait()
        assert time.monotonic() - began < 2

    def test_that_fails_first():
        assert not fails_first("failing")
"""


def test_only_a_stopped_test_is_run_again(pytester: pytest.Pytester) -> None:
    here = str(Path(standstill.__file__).parent)
    pytester.makeconftest(
        f"import sys; sys.path.insert(0, {here!r})\nimport standstill; standstill.LONG = 2.0\n"
        "pytest_plugins = ['standstill']"
    )
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*1 rerun*"])
    assert "test_that_fails_first" in "".join(line for line in result.outlines if line.startswith("FAILED"))
