"""The page in a real browser, before a real server: what a user asks, sees and comes back to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_pair import (
    ANSWER,
    BY_MENTOR,
    FAULTY,
    LADDER,
    LONG,
    QUESTION,
    STUBBORN,
    ask,
    asked,
    drawn,
    served,
    text,
    write_pair,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ("page_fixtures",)
pytestmark = pytest.mark.slow

# Notes when each of these elements first had a text that came from a model. Each chunk is drawn: a frame may have many.
_WATCH = """() => {
  window.filled = [];
  window.requestAnimationFrame = (draw) => draw();
  const watched = ["section-goal", "section-planning", "section-retrieval", "section-action", "answer"];
  new MutationObserver(() => {
    for (const id of watched) {
      const box = document.getElementById(id);
      if (!box || box.classList.contains("empty") || window.filled.some((one) => one[0] === id)) continue;
      const others = watched.filter((other) => !document.getElementById(other).classList.contains("empty"));
      window.filled.push([id, others.length, document.getElementById("run").getAttribute("aria-busy")]);
    }
  }).observe(document.getElementById("run"), { subtree: true, childList: true, characterData: true, attributes: true });
}"""


def test_a_question_is_answered_before_the_users_eyes(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_text("Synthetic.").wait_for()
    assert "fake:mentor.json" in text(page.get_by_role("banner")) and "fake:intern.json" in text(page.locator("#pair"))
    page.evaluate(_WATCH)
    ask(page, QUESTION)

    order = page.evaluate("window.filled")
    assert [name for name, _, _ in order] == ["section-goal", "section-planning", "section-retrieval", "answer"]
    assert [others for _, others, _ in order] == [1, 2, 3, 4]  # each while the later ones were empty
    assert {busy for _, _, busy in order} == {"true"}
    sections = {name: page.get_by_role("region", name=name, exact=True) for name in ("Goal", "Planning", "Action")}
    assert "find how many such numbers" in text(sections["Goal"]) and "at low" in text(sections["Goal"])
    assert "share the other three" in text(sections["Planning"]) and "at low, medium" in text(sections["Planning"])
    assert "not requested" in text(sections["Action"])

    steps = [text(step) for step in page.locator("#ladder > li").all()]
    assert [step.split()[0] for step in steps] == ["none", "low", "medium", "high"]
    assert "Go on" in steps[0] and "Go on" in steps[1] and "20 tokens" in steps[1]
    assert "Stop the mentor stopped here" in steps[2] and "44 tokens" in steps[2]
    assert "not needed" in steps[3]
    meters = page.get_by_role("meter", name=re.compile("^Sufficiency at level"))
    names = [meter.get_attribute("aria-label") or "" for meter in meters.all()]
    assert [re.sub(r"[>< \s]*\d\.\d\d", " x", name) for name in names] == [
        f"Sufficiency at level {level}: x of x needed" for level in ("none", "low", "medium")
    ]
    assert names[0].endswith("of 1.50 needed") and names[2].endswith("of 0.00 needed")
    assert "The mentor stopped at medium, after 44 tokens" in text(page.locator("#verdict"))

    assert page.locator("#answer").inner_text() == ANSWER  # with its spaces and empty lines
    assert text(page.locator("#final")) == "10" and "by the intern" in text(page.locator("#answered-by"))
    assert text(page.get_by_role("status")) == "Done. The answer: 10"


def test_what_it_cost_is_told_beside_the_mentor_alone(page: Page, url: str, locked: tuple[str, str]) -> None:
    page.goto(url)
    ask(page, QUESTION)
    usage = asked(url, QUESTION)["tandem"]
    rows = {}
    for row in page.locator("#cost tbody tr").all():
        name, ours, theirs = row.locator("th, td").all()
        rows[name.inner_text().split("\n")[0]] = (text(ours), text(theirs))
    assert usage["mentor"]["completion"] == 44 and usage["intern"]["probe"] == 12
    assert rows["Mentor tokens"] == ("44", f"≈ {usage['mentor_alone']['tokens']}")
    assert rows["Intern tokens"][0] == str(usage["intern"]["answer"])
    assert rows["Probe tokens"][0] == "12"
    ours, theirs = (float(cell.removeprefix("≈ ")) for cell in rows["US$"])
    assert ours == pytest.approx(usage["usd"], rel=0.01)
    assert theirs == pytest.approx(usage["mentor_alone"]["usd"], rel=0.01)
    assert "estimate" in text(page.locator("#cost")) and "TFLOPs" not in text(page.locator("#cost"))
    share = round(100 * (usage["usd"] / usage["mentor_alone"]["usd"] - 1))
    assert f"{abs(share)} % {'less' if share < 0 else 'more'} than the mentor alone." in text(page.locator("#cost"))

    address, key = locked  # this pair has no prices
    page.goto(address)
    page.get_by_label("API key", exact=True).fill(key)
    page.keyboard.press("Enter")
    ask(page, QUESTION)
    assert "TFLOPs" in text(page.locator("#cost")) and "US$" not in text(page.locator("#cost"))


def test_model_and_effort_are_what_the_server_is_asked_with(page: Page, url: str) -> None:
    page.goto(url)
    ask(page, STUBBORN, model="mentor")
    assert page.get_by_label("Effort", exact=True).is_disabled()
    assert text(page.locator("#verdict")) == "The mentor answered alone."
    assert text(page.locator("#answer")) == BY_MENTOR and "by the mentor" in text(page.locator("#answered-by"))
    assert "climbs no ladder" in text(page.locator("#climb-note"))
    ask(page, STUBBORN, model="tandem", effort="up to low: 20 mentor tokens")
    assert [step.split()[0] for step in page.locator("#ladder > li").all_inner_texts()] == ["none", "low"]
    assert "The mentor stopped at low, after 20 tokens: this was the last level." in text(page.locator("#verdict"))


def test_the_mentor_answers_where_no_insight_will_do(page: Page, locked: tuple[str, str]) -> None:
    address, key = locked
    page.goto(address)
    page.get_by_label("API key", exact=True).fill(key)
    page.keyboard.press("Enter")
    ask(page, QUESTION, effort="to the mentor’s own answer")
    steps = [text(step) for step in page.locator("#ladder > li").all()]
    assert "Go on" in steps[0] and "Mentor answers" in steps[1] and "The mentor wrote the answer" in steps[2]
    assert text(page.locator("#verdict")) == "The insight up to low was not enough: the mentor answered itself."
    assert "by the mentor" in text(page.locator("#answered-by"))
    assert "Uncalibrated: the classifier was fitted to another" in text(page.locator("#climb-note"))
    ask(page, QUESTION, effort="whole ladder, to low")
    assert "The mentor stopped at low, after 10 tokens: this was the last level." in text(page.locator("#verdict"))


def test_three_answers_side_by_side(page: Page, url: str) -> None:
    page.goto(url)
    ask(page, QUESTION)
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("status").get_by_text("The comparison is complete.").wait_for()
    drawn(page)
    cards = page.locator("#cards > section")
    titles = [card.get_attribute("aria-label") for card in cards.all()]
    assert titles == ["With insight (tandem)", "Intern alone", "Mentor alone"]
    tandem, intern, mentor = (text(card) for card in cards.all())
    assert "Mentor tokens 44" in tandem and "Mentor tokens 0" in intern and "Intern tokens 0" in mentor
    assert BY_MENTOR in mentor and all("US$" in card for card in (tandem, intern, mentor))
    assert page.get_by_role("button", name="Compare").is_hidden()
    page.reload()
    page.locator(".entry").click()
    assert [text(card) for card in cards.all()] == [tandem, intern, mentor]


def test_stop_ends_a_comparison_too(page: Page, url: str) -> None:
    page.goto(url)
    ask(page, LONG, model="mentor")
    page.get_by_role("button", name="Compare").click()
    card = page.get_by_role("region", name="With insight (tandem)")
    card.get_by_text("one more").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    card.get_by_text("Stopped.").wait_for()
    assert page.locator("#cards > section").count() == 2  # the intern is not asked any more
    assert page.evaluate("document.activeElement.id") == "question"  # where the keyboard goes when Stop goes dead


def test_history_can_be_reopened_deleted_and_cleared(page: Page, url: str) -> None:
    page.goto(url)
    for question in (QUESTION, STUBBORN, FAULTY):
        ask(page, question)
    page.reload()
    entries = page.locator(".entry")
    assert [one.split("\n")[0] for one in entries.all_inner_texts()] == [FAULTY, STUBBORN, QUESTION]
    requests: list[str] = []
    page.get_by_role("status").get_by_text("Ready.").wait_for()  # what the page itself asks at its start is over
    page.on("request", lambda request: requests.append(request.url))
    entries.nth(2).click()
    assert page.locator("#answer").inner_text() == ANSWER and "44" in text(page.locator("#cost"))
    assert page.get_by_label("Question", exact=True).input_value() == QUESTION and requests == []
    page.get_by_role("button", name=f"Delete the question: {STUBBORN}").click()
    assert [one.split("\n")[0] for one in entries.all_inner_texts()] == [FAULTY, QUESTION]
    page.get_by_role("button", name="Clear all").click()
    assert entries.count() == 2  # it asks first
    page.get_by_role("button", name="Clear all, for good?").click()
    assert entries.count() == 0 and page.evaluate("localStorage.length") == 0
    page.evaluate("localStorage.setItem('tandem.history', '[{\"question\": 1}, null')")
    page.reload()
    page.locator("#model:enabled").wait_for()
    assert entries.count() == 0  # what is broken is as good as nothing


def test_a_question_climbs_the_ladder_of_its_kind(page: Page, tmp_path: Path) -> None:
    options = write_pair(tmp_path)
    del options[options.index("--effort") : options.index("--effort") + 2]
    file = tmp_path / "classifier" / "card.json"
    card = json.loads(file.read_text())
    climbs = {"thresholds": {"none": 1.5, "high": 0.0}}
    of_math = {"ladder": "none,high=60", "draft_tokens": 6, "policy": climbs}
    usual = {"ladder": card["ladder"], "draft_tokens": 6, "policy": card["policy"] | {"thresholds": {"none": 0.0}}}
    card["points"] = {"usd": {card["aim"]: {"math": of_math, "all": usual}}}
    file.write_text(json.dumps(card))
    with served(tmp_path, *options) as url:
        page.goto(url)
        for question, ladder in (
            (QUESTION, ["none", "high"]),
            ("Why is the sky blue?", [level.split("=")[0] for level in LADDER.split(",")]),
        ):
            ask(page, question)
            steps = page.locator("#ladder > li").all_inner_texts()
            assert [step.split()[0] for step in steps] == ladder
            assert "nothing to add" not in " ".join(steps)


def test_what_is_thought_is_folded_before_the_answer(page: Page, tmp_path: Path) -> None:
    options = write_pair(tmp_path)
    script = json.loads((tmp_path / "intern.json").read_text())
    script["rules"] = [{"text": "<think> perhaps \\boxed{1} </think>\n\nIt is \\boxed{27}."}]
    (tmp_path / "intern.json").write_text(json.dumps(script))
    with served(tmp_path, *options) as url:
        page.goto(url)
        ask(page, QUESTION, model="intern")
        folded = page.locator("#thinking")
        assert folded.is_visible() and not folded.locator(".text").is_visible()
        assert text(page.locator("#answer")) == "It is \\boxed{27}." and text(page.locator("#final")) == "27"
        folded.locator("summary").click()
        assert text(folded.locator(".text")) == "perhaps \\boxed{1}"
        ask(page, QUESTION, model="mentor")
        assert not folded.is_visible()
