"""The page in a real browser where it is not easy: keyboard only, refusals, hostile text, small screens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from page_pair import FAULTY, HOSTILE, LONG, MARKUP, QUESTION, ask, left, text
from serving import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ("page_fixtures",)
pytestmark = pytest.mark.slow


def test_everything_can_be_done_by_keyboard(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("#model:enabled").wait_for()
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen[-1]
    assert seen[:5] == ["Skip to the question", "question", "model", "effort", "go"]

    page.get_by_label("Question", exact=True).focus()
    page.keyboard.type(LONG)
    before = left(url)
    page.keyboard.press("Control+Enter")
    page.locator("#answer", has_text="one more").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("status").get_by_text("Stopped.").wait_for()
    page.locator("#verdict", has_text="Stopped before its end.").wait_for()
    assert "one more" in text(page.locator("#answer"))
    until(lambda: left(url) == before + 1)  # the server has heard of it, and has stopped the models

    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(QUESTION)
    for wanted in ("model", "effort", "go"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == wanted
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("Done. The answer: 10").wait_for()
    while page.evaluate("document.activeElement.className") != "entry":
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the older of the two
    assert page.evaluate("document.activeElement.textContent") == LONG
    assert text(page.locator("#asked")) == LONG


def test_a_refusal_asks_for_the_key_and_keeps_it_in_this_tab(page: Page, locked: tuple[str, str]) -> None:
    address, key = locked
    page.goto(address)
    field = page.get_by_label("API key", exact=True)
    field.wait_for()
    alert = page.get_by_role("alert")
    assert "401" in text(alert) and "authentication_error" in text(alert)
    assert field.evaluate("field => field === document.activeElement")
    page.evaluate("document.getElementById('problem').replaceChildren()")  # the next 401 is a new one
    field.fill("tandem-wrong")
    page.keyboard.press("Enter")
    until(lambda: field.input_value() == "")
    alert.get_by_text("401").wait_for()
    field.fill(key)
    page.keyboard.press("Enter")
    page.locator("#model:enabled").wait_for()
    assert field.is_hidden() and text(alert) == ""
    ask(page, "What is 17*23?")
    assert text(page.locator("#final")) == "23"
    assert key in json.dumps(page.evaluate("({ ...sessionStorage })"))
    assert key not in json.dumps(page.evaluate("({ ...localStorage })")) and key not in page.content()
    page.reload()
    page.locator("#model:enabled").wait_for()
    page.get_by_role("button", name="Forget the key").click()
    assert page.evaluate("sessionStorage.length") == 0 and field.is_visible()


def test_the_field_for_a_key_is_not_shown_where_none_is_asked_for(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("#model:enabled").wait_for()
    assert page.get_by_label("API key", exact=True).is_hidden()


def test_errors_are_shown_as_the_server_tells_them(page: Page, url: str) -> None:
    page.goto(url)
    ask(page, FAULTY)
    alert = page.get_by_role("alert")
    assert "The answer broke off" in text(alert) and "the wire was cut <b>" in text(alert)
    assert "server_error · code upstream" in text(alert)
    assert "not reached" in text(page.locator("#ladder"))
    ask(page, QUESTION)
    assert text(alert) == ""
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, QUESTION)
    assert "the server cannot be reached" in text(alert)
    page.unroute_all()
    error = {"message": "too many", "type": "rate_limit_error", "param": "messages[0].content", "code": "slow"}
    reply = {"status": 429, "headers": {"Retry-After": "7"}, "json": {"error": error}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**reply))
    ask(page, QUESTION)
    assert "(429) too many rate_limit_error · field messages[0].content · code slow · try again in 7 s" in text(alert)


def test_hostile_text_is_text(page: Page, url: str) -> None:
    page.goto(url)
    ask(page, HOSTILE)
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("status").get_by_text("The comparison is complete.").wait_for()
    for _ in range(2):
        assert page.locator("#answer").inner_text() == MARKUP
        assert text(page.get_by_role("region", name="Goal").locator("p")) == MARKUP
        assert text(page.locator("#final")) == "<i>7</i>" and text(page.locator("#asked")) == HOSTILE
        assert page.locator("#planted, main img, main script, main style, main i").count() == 0
        assert page.evaluate("window.pwned") is None
        page.reload()  # and the same out of the history
        page.get_by_role("button", name=HOSTILE).first.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_small_screen(page: Page, url: str, locked: tuple[str, str], scheme: str) -> None:
    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360

    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.goto(locked[0])
    page.get_by_label("API key", exact=True).wait_for()
    fits()
    page.goto(url)
    page.locator("#model:enabled").wait_for()
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(shade) < 128) is (scheme == "dark")
    fits()
    for question in (QUESTION, HOSTILE, FAULTY + "W" * 200):
        ask(page, question)
        fits()
    ask(page, HOSTILE)
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("status").get_by_text("The comparison is complete.").wait_for()
    fits()
    page.get_by_label("Question", exact=True).fill(LONG)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#answer.writing").wait_for()
    assert page.evaluate("document.getAnimations().length") == 0
    page.keyboard.press("Escape")


def test_the_policy_is_strict_and_the_page_names_its_parts(page: Page, url: str) -> None:
    response = page.goto(url)
    assert response and "default-src 'none'; script-src 'self'" in response.headers["content-security-policy"]
    page.locator("#model:enabled").wait_for()
    for role in ("banner", "main", "complementary"):
        assert page.get_by_role(role).count() == 1  # type: ignore[arg-type]
    unnamed = "[...document.querySelectorAll('input, select, textarea')].filter((one) => !one.labels.length).length"
    assert page.evaluate(unnamed) == 0
    live = page.evaluate("[...document.querySelectorAll('[aria-live], [role=alert]')].map((one) => one.id)")
    assert live == ["problem", "status"]  # a few words for each stage, and no streams of tokens
