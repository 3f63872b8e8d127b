"""The pictures of README and docs: pages made of committed tables, photographed in chromium, light and dark.

python scripts/pictures.py [--only report]   writes docs/assets/*.webp. It needs the packages of `make test`.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

from tandem import Tandem
from tandem.ladder import parse_ladder
from tandem.reports.tune import CLASSIFIER, HELD, Tuning
from tandem.sufficiency.classifier import find_classifier, load_classifier
from tandem.training.data import read_collection
from tandem.training.fit import by_problem, kinds_of
from tandem.types import Message, Problem

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAIR = "qwen2.5-coder-1.5b+qwen2.5-coder-0.5b"
PROFILES = {"mentor": "qwen2.5-coder-1.5b-vllm-8x256+64", "intern": "qwen2.5-coder-0.5b-vllm-8x512+128"}
ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"


@contextmanager
def browser() -> Iterator[Browser]:
    """Start the machine's chromium, or the one that Playwright installed."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield running
        running.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, browser() as running:
        page = replayed(Path(folder))
        for theme in ("light", "dark"):
            context = running.new_context(
                viewport={"width": 1180, "height": 860}, color_scheme=theme, device_scale_factor=1.5
            )
            shown = context.new_page()
            shown.goto(page.as_uri())
            shown.locator("#foot", has_text="Written by Tandem").wait_for()
            save(shown.screenshot(), f"report-{theme}")
            context.close()


def replayed(folder: Path) -> Path:
    card = find_classifier(PAIR)
    tables = card / "collected" / "math500+gsm8k-test"
    shutil.copytree(card, folder / CLASSIFIER, ignore=shutil.ignore_patterns("collected"))
    (folder / HELD).mkdir()
    for name in ("collection.json", "table.jsonl.gz"):
        shutil.copy(tables / name, folder / HELD / name)
    rows, manifest = read_collection(tables)
    kinds = kinds_of(whole := by_problem(rows, parse_ladder(manifest["ladder"])), whole)
    problems = [
        Problem(id=name, task=kind, messages=(Message(role="user", content=name),))
        for kind, names in kinds.items()
        for name in names
    ]
    engine = Tandem(
        manifest["mentor"],
        manifest["intern"],
        unit="seconds",
        mentor_profile=PROFILES["mentor"],
        intern_profile=PROFILES["intern"],
    )
    tuning = Tuning.of(
        engine, problems * 1, folder, data={"name": "math500+gsm8k"}, effort=manifest["ladder"], unit="seconds"
    )
    tuning.held = problems
    print(tuning.evaluate(load_classifier(PAIR))["sentence"])
    return folder / "comparison" / "report.html"


def save(png: bytes, name: str) -> None:
    path = ASSETS / f"{name}.webp"
    Image.open(io.BytesIO(png)).convert("RGB").save(path, quality=82, method=6)
    print(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
