"""What the tests of the page share: a scripted pair, `tandem serve` as a process of its own, and the browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import classifier, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

LADDER = "none,low=20,medium=44,high=90"
QUESTION = "How many three-digit numbers have digits that add up to 4?"
LONG = "a long question: count to a thousand"  # nobody waits for the end of its answer
FAULTY = "a faulty question: the mentor dies"
HOSTILE = "a hostile question <b>in bold</b>"
STUBBORN = "a stubborn question"  # the mentor's own answer is asked for
MARKUP = (
    "<img src=x onerror=window.pwned=1><script>window.pwned=2</script> </p><style>*{display:none}</style> "
    "<b id=planted>bold</b> &amp; " + "W" * 300 + " \\boxed{<i>7</i>}"
)
INSIGHT = (
    "Goal: find how many such numbers there are , no more .\n"
    "Planning: let the digits be a , b and c ; take one from a , and share the other three among all of them .\n"
    "Retrieval: n things go into k places in C( n + k - 1 , k - 1 ) ways :\n    \\binom{n+k-1}{k-1}\n"
    "Action: C( 3 + 3 - 1 , 3 - 1 ) = C( 5 , 2 ) = 10 , and by hand the same ."
)
ANSWER = "Let  a + b + c = 4  with  a >= 1 .\n\n    a' + b + c = 3\n\nso there are \\boxed{10}"
BY_MENTOR = "I say it myself : \\boxed{10}"
CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def write_pair(folder: Path) -> list[str]:
    """Write a pair that answers QUESTION at `medium`, with prices; return the options that serve it."""
    mentor = [
        {"when": FAULTY, "purpose": "insight", "text": INSIGHT, "fault": "the wire was cut <b>", "fault_after": 9},
        {"when": HOSTILE, "purpose": "insight", "text": f"Goal: {MARKUP}\nAction: {MARKUP}"},
        {"when": HOSTILE, "text": MARKUP},
        {"purpose": "insight", "text": INSIGHT},
        {"text": BY_MENTOR},
    ]
    intern = [
        {"when": HOSTILE, "text": MARKUP},
        {"when": LONG, "text": "one more , " * 20_000},
        {"text": ANSWER},
    ]
    for name, rules in (("mentor", mentor), ("intern", intern)):
        script = {"rules": rules, "token_seconds": 0.01}
        (folder / f"{name}.json").write_text(json.dumps(script))
    classifier(folder / "classifier", none=1.5, low=1.5, medium=0, high=0)
    card = json.loads((folder / "classifier" / "card.json").read_text())
    card |= {"mentor": "fake:mentor.json", "intern": "fake:intern.json"}
    card |= {"ladder": LADDER, "collected_ladder": f"{LADDER},answer", "draft_tokens": 6}
    (folder / "classifier" / "card.json").write_text(json.dumps(card))
    (folder / "prices.yaml").write_text(
        "fake:mentor.json: {input: 2, output: 1000}\nfake:intern.json: {input: 1, output: 1}"
    )
    return [
        *("--mentor", "fake:mentor.json", "--intern", "fake:intern.json", "--classifier", "classifier"),
        *("--prices", "prices.yaml", "--effort", LADDER, "--pace", "thrifty"),
    ]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """Run `tandem serve` in `folder`, at a port that is free; yield its address when it is ready."""
    command = [sys.executable, "-m", "tandem", "serve", "--port", "0", *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TANDEM_", "OPENAI_"))}
    environment["TANDEM_HOME"] = str(folder / "home")
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"the page at (\S+)", line):
                    url = found[1]
                    break
            else:
                pytest.fail("tandem serve ended at once:\n" + "".join(said))
            with httpx.Client(trust_env=False) as client:
                until(lambda: client.get(f"{url}/readyz").status_code == 200, 60)
            yield url
        finally:
            process.terminate()
            process.stderr.read()  # a full pipe would hold it up


def asked(url: str, question: str, model: str = "tandem") -> dict[str, Any]:
    """Ask without the page; return the usage."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    with httpx.Client(trust_env=False, timeout=60) as client:
        found: dict[str, Any] = client.post(f"{url}/v1/chat/completions", json=body).json()["usage"]
    return found


def left(url: str) -> float:
    """Return how many requests the clients of a server have broken off."""
    with httpx.Client(trust_env=False) as client:
        families = list(text_string_to_metric_families(client.get(f"{url}/metrics").text))
    samples = [sample for family in families for sample in family.samples]
    return sum(s.value for s in samples if s.name.endswith("_total") and s.labels.get("status") == "499")


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """Run Debian's Chromium. Fails where it, or Playwright, is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("Playwright is missing: pip install playwright", pytrace=False)
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("Chromium is missing: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*CHROMIUM, *options])
        try:
            yield browser
        finally:
            browser.close()


def text(locator: Locator) -> str:
    return " ".join(locator.inner_text().split())


def ask(page: Page, question: str, *, model: str | None = None, effort: str | None = None) -> None:
    """Ask, and wait for the end."""
    page.locator("#model:enabled").wait_for()  # before the models were listed, Ask does nothing
    if model:
        page.get_by_label("Model", exact=True).select_option(model)
    if effort:
        page.get_by_label("Effort", exact=True).select_option(label=effort)
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#stop:disabled").wait_for()
    page.locator("#run[aria-busy=false]").wait_for()
    drawn(page)


def drawn(page: Page) -> None:
    """Wait until all that the page knows is drawn: it draws when the browser next paints."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
