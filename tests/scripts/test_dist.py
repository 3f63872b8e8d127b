"""`make dist`: what is built, what is refused, and the wheel at work in an empty environment."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "dist.py"


@pytest.fixture(scope="module")
def dist() -> Any:
    spec = importlib.util.spec_from_file_location("dist", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(dist: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return dist.build(tmp_path_factory.mktemp("built") / "dist")  # type: ignore[no-any-return]


def test_wheel_and_sdist_are_complete(dist: Any, built: tuple[Path, Path]) -> None:
    wheel, sdist = built
    dist.check_wheel(wheel)
    dist.check_sdist(sdist)
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("server/page/app.js", "models/catalog.yaml", "models/profiles.json", "py.typed"):
        assert f"tandem/{name}" in names
    for folder, file in (("data", "starter.jsonl"), ("data", "gsm8k.yaml"), ("classifiers", "card.json")):
        assert any(name.startswith(f"tandem/_shipped/{folder}/") and name.endswith(file) for name in names)


@pytest.mark.parametrize(
    ("extra", "said"), [("tests/test_x.py", "should not hold"), ("tandem/x.pyc", "should not hold")]
)
def test_a_wheel_with_what_does_not_belong_there_is_refused(
    extra: str, said: str, dist: Any, built: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel = tmp_path / built[0].name
    shutil.copy(built[0], wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(extra, "")
    with pytest.raises(dist.Unfit, match=f"{said} 1 files, such as {extra}"):
        dist.check_wheel(wheel)


def test_a_wheel_without_a_classifier_is_refused(dist: Any, built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel = tmp_path / built[0].name
    with zipfile.ZipFile(built[0]) as whole, zipfile.ZipFile(wheel, "w") as part:
        for name in whole.namelist():
            if not name.endswith("/card.json"):
                part.writestr(name, whole.read(name))
    with pytest.raises(dist.Unfit, match=r"lacks 1 files, such as .*/card\.json"):
        dist.check_wheel(wheel)


def test_the_wheel_works_in_an_empty_environment(
    dist: Any, built: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dist.try_wheel(built[0], tmp_path)
    shown = capsys.readouterr().out
    for line in ("installed without extras", "tandem demo: shown", "4 problems solved", "tandem serve: answered"):
        assert line in shown
    assert "\\boxed{" in shown
