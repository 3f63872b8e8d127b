"""What needs public data that is not here is left out with one line; with the data it runs."""

from __future__ import annotations

import json
from pathlib import Path

import public_data
import pytest

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    def test_that_needs_nothing():
        pass

    @pytest.mark.public_data("cnk12")
    @pytest.mark.parametrize("number", range(2))
    def test_that_needs_one(number):
        pass

    @pytest.mark.public_data("aime24", "cnk12/train")
    def test_that_needs_two():
        pass
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_left_out_with_one_line_or_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    here = str(Path(public_data.__file__).parent)
    pytester.makeconftest(f"import sys; sys.path.insert(0, {here!r})\npytest_plugins = ['public_data']")
    pytester.makepyfile(TESTS)
    options = ("-p", "no:cacheprovider", "-ra", "--strict-markers", *workers)

    result = pytester.runpytest_subprocess(*options)
    assert result.ret == 0
    assert result.parseoutcomes().get("passed") == 1 and "3 left out" in result.outlines[-1]
    said = [line for line in result.outlines if "cnk12" in line]
    assert len(said) == 1 and said[0].startswith("3 tests left out:")
    assert "aime24 (aime24.jsonl), cnk12 (cnk12.jsonl)" in said[0] and "TANDEM_DATA_DIR" in said[0]

    for name in ("aime24", "cnk12"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"problem": "1+1", "answer": "2"}))
    result = pytester.runpytest_subprocess(*options)
    assert result.parseoutcomes() == {"passed": 4} and "left out" not in result.stdout.str()
