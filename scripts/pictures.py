"""The pictures of README and docs, photographed in chromium, light and dark: docs/assets/*.webp.

python scripts/pictures.py            all of them, in about two minutes; it needs what `make test` installs
python scripts/pictures.py report     the comparison that the demo pair's committed tables make when they are replayed
python scripts/pictures.py tune       the tutorial's tuning, of two scripted endpoints
python scripts/pictures.py server     the server's page, with a scripted pair
"""

from __future__ import annotations

import io
import json
import shutil
import sys
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from page_pair import QUESTION, ask, served, write_pair
from sessions import Step, session

PAIR = "qwen2.5-coder-1.5b+qwen2.5-coder-0.5b"
PROFILES = {"mentor": "qwen2.5-coder-1.5b-vllm-8x256+64", "intern": "qwen2.5-coder-0.5b-vllm-8x512+128"}
TUNE = "tandem tune --mentor gpt-4o --intern deepseek-7b --intern-endpoint http://gpu1:8000/v1 --dataset mine.csv --yes"
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
    """Take all pictures, or those that are named."""
    wanted = sys.argv[1:] or ["report", "tune", "server"]
    with tempfile.TemporaryDirectory() as name, browser() as running:
        folder = Path(name)
        if "report" in wanted:
            take(running, "report", replayed(folder).as_uri())
        if "tune" in wanted:
            (folder / "session").mkdir()
            with session(folder / "session") as begun:
                print(begun.run(Step(TUNE, "", (0, 0))))
            (page,) = (folder / "session" / "tuned").glob("*/comparison/report.html")
            take(running, "tune", page.as_uri())
        if "server" in wanted:
            (folder / "server").mkdir()
            options = write_pair(folder / "server")
            path = folder / "server" / "classifier" / "card.json"
            card = json.loads(path.read_text())
            card["policy"]["thresholds"] = {"none": 0.8, "low": 0.7, "medium": 0.5, "high": 0.5}
            path.write_text(json.dumps(card))
            with served(folder / "server", *options) as address:
                take(running, "server", address, question=QUESTION)


def take(running: Browser, name: str, address: str, question: str | None = None) -> None:
    """Photograph a page, light and dark."""
    for theme in ("light", "dark"):
        context = running.new_context(
            viewport={"width": 1180, "height": 1080 if question else 860}, color_scheme=theme, device_scale_factor=1.5
        )
        page = context.new_page()
        page.goto(address)
        if question:
            ask(page, question)
        else:
            page.locator("#foot", has_text="Written by Tandem").wait_for()
        save(page.screenshot(), f"{name}-{theme}")
        context.close()


def replayed(folder: Path) -> Path:
    """Write the comparison of the demo pair's points on MATH-500 and GSM8K-test; return its page."""
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
        engine, problems, folder, data={"name": "math500+gsm8k"}, effort=manifest["ladder"], unit="seconds"
    )
    tuning.held = problems
    tuning.evaluate(load_classifier(PAIR))
    return folder / "comparison" / "report.html"


def save(png: bytes, name: str) -> None:
    """Keep a picture, compressed."""
    path = ASSETS / f"{name}.webp"
    Image.open(io.BytesIO(png)).convert("RGB").save(path, quality=82, method=6)
    print(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
