"""The report's page in a real browser, opened as a file: what a reader does with it, what hostile text cannot do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fabricate_compare import STRATEGIES, records_of, write_compare, write_run
from page_pair import chromium, text
from serving import until

from tandem.reports.page.gather import read_comparison
from tandem.reports.page.writers import RunPage, write_comparison
from tandem.runs.listing import current_summary
from tandem.runs.store import RunStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

Open = Callable[..., "Page"]
HOSTILE = (
    "<script>window.pwned=1</script></script><script>window.pwned=2</script><!-- <img src=x onerror=window.pwned=3>"
    " <b id=planted>bold</b> {{7*7}} " + "W" * 300
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its module: Playwright's sync face leaves an event loop running in this thread."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of all kinds, each written once."""
    top = tmp_path_factory.mktemp("reports")
    skipped = {"best-route": "the intern reports no log-probabilities"}
    made = {
        "nine": write_compare(top / "nine", skipped=skipped),
        "many": write_compare(top / "many", problems=5000, strategies=("tandem",), words=120),
        "one": write_compare(top / "one", problems=2, strategies=("tandem",)),
        "empty": write_compare(top / "empty", problems=0, strategies=(), skipped=skipped),
        "hostile": hostile(top / "hostile"),
        "broken": broken(top / "broken"),
        "crowd": crowd(top / "crowd"),
        "priced": write_compare(top / "priced", prices=True, notes=["own hardware is free <b>"]),
    }
    for folder in made.values():
        write_comparison(folder, read_comparison(folder))
    made["run"] = write_run(top / "run", "tandem", records_of("tandem", 60))
    store = RunStore.open_for_reading(made["run"])
    page = RunPage(made["run"])
    list(page.passing(store.records()))
    page.write(current_summary(store), store.manifest(), ["one line was damaged <b>"])
    return made


@pytest.fixture
def show(browser: Browser, folders: dict[str, Path]) -> Iterator[Open]:
    """Open a report; whatever is done on it, nothing is said on the console, nothing thrown, nothing asked for."""
    contexts, said, asked_for = [], [], []

    def opened(name: str, *, width: int = 1280, theme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        page.on("request", lambda request: asked_for.append(request.url))
        page.set_default_timeout(20_000)
        page.goto(f"file://{folders[name] / 'report.html'}")
        page.locator("#foot", has_text="Written by Tandem").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked_for if not url.startswith(("file://", "data:"))] == []
    assert len([url for url in asked_for if url.startswith("file://")]) == len(contexts)


def hostile(folder: Path) -> Path:
    fields = ("problem", "question", "answer", "text", "reference", "section")
    write_compare(folder, problems=3, strategies=("tandem", "mentor-only"), texts=dict.fromkeys(fields, HOSTILE))
    raw = json.loads((folder / "compare.json").read_text())
    raw["pair"] = {"mentor": HOSTILE, "intern": HOSTILE}
    raw["dataset"]["name"] = HOSTILE
    raw["synthetic"] = True
    raw["reliability"] = {HOSTILE: raw["reliability"]["tandem"]}
    raw["strategies"][0] |= {"name": HOSTILE, "notes": [HOSTILE], "levels": {HOSTILE: 2, "none": 1}}
    raw["strategies"].append({"name": HOSTILE, "status": "skipped", "reason": HOSTILE})
    (folder / "compare.json").write_text(json.dumps(raw))
    return folder


def broken(folder: Path) -> Path:
    """Figures that are no numbers, strategies at the same spot, names in all scripts."""
    write_compare(folder, problems=4, strategies=("tandem", "mentor-only", "intern-only", "cascade"))
    raw = json.loads((folder / "compare.json").read_text())
    tandem, mentor, intern, cascade = raw["strategies"]
    tandem |= {"name": "استراتيجية طويلة", "accuracy": 0.5, "cost": {"tflops": 1.0}, "gain_over_chord": {}, "ace": {}}
    cascade |= {"name": "🦉 " + "long-" * 30, "accuracy": 0.5, "cost": {"tflops": 1.0, "seconds": float("inf")}}
    mentor |= {"accuracy": float("nan"), "accuracy_ci95": None, "against_mentor": None, "levels": {}}
    intern |= {"accuracy": None, "cost": None, "truncated": None, "notes": None}
    raw |= {"oracle": None, "shared": None, "started": "one day"}
    (folder / "compare.json").write_text(json.dumps(raw))
    return folder


def crowd(folder: Path) -> Path:
    extra = ("published", "fixed:low", "fixed:medium", "fixed:high", "route", "best-route", "blueprint")
    write_compare(folder, problems=20, strategies=(*STRATEGIES, *extra))
    raw = json.loads((folder / "compare.json").read_text())
    raw["strategies"][-1] |= {"status": "partial", "n": 7, "accuracy": 0.99}
    raw["strategies"][-2] |= {"upper_bound": True, "accuracy": 0.98}
    (folder / "compare.json").write_text(json.dumps(raw))
    return folder


def wait_for_redrawing(page: Page) -> None:
    """Wait until the plot is drawn for the page's width: one for another width is scaled at once, labels included.

    Asked from here, as the page's own policy forbids a predicate that is evaluated within it.
    """
    drawn = "plot => plot.querySelector('svg').getAttribute('width') == Math.max(280, plot.clientWidth)"
    until(lambda: page.locator("#plot").evaluate(drawn))


def figures(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "compare.json").read_text())["strategies"]
    return [one for one in found if one["status"] != "skipped"]


def names(page: Page) -> list[str]:
    return page.locator("#table tbody th").all_inner_texts()


def test_the_head_says_what_was_compared(show: Open) -> None:
    page = show("nine")
    head = text(page.get_by_role("banner"))
    assert "mentor qwen2.5-coder-1.5b" in head and "intern qwen2.5-coder-0.5b" in head
    assert "made-up, test" in head and "Problems 60" in head and "November 25, 2026" in head
    assert "9 compared, 1 skipped" in head and "45 % of those charged" in head
    assert page.get_by_text("Synthetic.").is_hidden()
    assert "best-route the intern reports no log-probabilities" in text(page.locator("#skipped"))
    assert show("hostile").get_by_text("Synthetic.").is_visible()


def test_the_table_sorts_by_every_figure(show: Open, folders: dict[str, Path]) -> None:
    page = show("nine")
    rows = figures(folders["nine"])
    given = [row["name"] for row in rows]
    assert names(page) == given
    sort = page.locator("#table thead")
    sort.get_by_role("button", name="Accuracy").click()
    assert names(page) == [row["name"] for row in sorted(rows, key=lambda row: -row["accuracy"])]
    assert sort.locator("th", has_text="Accuracy").get_attribute("aria-sort") == "descending"
    assert "Accuracy" in page.evaluate("document.activeElement.textContent")  # the keyboard stays where it was
    page.keyboard.press("Enter")
    assert names(page) == [row["name"] for row in sorted(rows, key=lambda row: row["accuracy"])]
    sort.get_by_role("button", name="Mentor tokens").click()
    assert names(page) == [row["name"] for row in sorted(rows, key=lambda row: row["cost"]["mentor_tokens"])]
    sort.get_by_role("button", name="Gain over chord").click()
    by_gain = sorted(rows, key=lambda row: -row["gain_over_chord"]["tflops"]["value"])
    assert names(page) == [row["name"] for row in by_gain]
    page.get_by_label("Mentor tokens", exact=True).check(force=True)  # the gain is now at equal mentor tokens
    by_gain = sorted(rows, key=lambda row: -row["gain_over_chord"]["mentor_tokens"]["value"])
    assert names(page) == [row["name"] for row in by_gain]
    cells = [text(cell) for cell in page.locator("#table tbody tr").first.locator("td").all()]
    best = by_gain[0]
    low, high = best["accuracy_ci95"]
    assert cells[0] == f"{100 * best['accuracy']:.1f} % {100 * low:.1f} to {100 * high:.1f}"
    gain = best["gain_over_chord"]["mentor_tokens"]["value"]
    assert cells[6].startswith(f"{100 * gain:+.1f} ".replace("-", "−"))


def test_what_has_no_value_sorts_last_either_way(show: Open) -> None:
    page = show("broken")
    button = page.locator("#table thead").get_by_role("button", name="Accuracy")
    for _ in range(2):
        button.click()
        assert set(names(page)[2:]) == {"mentor-only", "intern-only"}  # both without an accuracy


def test_the_axis_can_be_chosen(show: Open, folders: dict[str, Path]) -> None:
    page = show("nine")
    axis = page.get_by_role("group", name="Cost axis")
    assert axis.get_by_label("US$").is_disabled()  # nobody knows a price
    assert axis.get_by_label("TFLOPs", exact=True).is_checked()
    chart = page.get_by_role("group", name="Accuracy against")
    before = chart.get_by_role("img", name="spec-reason").get_attribute("aria-label")
    spent = next(row["cost"] for row in figures(folders["nine"]) if row["name"] == "spec-reason")
    assert before and f"{spent['tflops']:.3g} TFLOPs a problem" in before
    axis.get_by_label("TFLOPs", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert axis.get_by_label("Mentor tokens").is_checked()
    after = chart.get_by_role("img", name="spec-reason").get_attribute("aria-label")
    assert after and after.endswith(f"{round(spent['mentor_tokens'])} mentor tokens a problem")
    assert "mentor tokens a problem" in (chart.text_content() or "")


def test_the_page_begins_in_the_unit_of_the_comparison_and_ends_with_its_verdict(
    show: Open, folders: dict[str, Path]
) -> None:
    page = show("priced")
    axis = page.get_by_role("group", name="Cost axis")
    assert axis.get_by_label("US$").is_checked() and "US$ a problem" in (page.locator("#plot").text_content() or "")
    rows = {row["name"]: row for row in figures(folders["priced"])}
    point = page.locator(".point[aria-label^='cascade:']")
    spoken = point.get_attribute("aria-label") or ""
    assert f"US$ {rows['cascade']['cost']['usd']:.3g}" in spoken
    assert "at equal US$" in text(page.locator("#table thead"))
    assert "On these made-up problems nothing is shown." in text(page.get_by_role("banner"))
    assert "own hardware is free <b>" in text(page.locator("#notes"))
    axis.get_by_label("Seconds of latency").check(force=True)  # what a user waits is an axis of its own
    spoken = point.get_attribute("aria-label") or ""
    assert f"{rows['cascade']['cost']['latency']:.3g} seconds of latency a problem" in spoken
    axis.get_by_label("Device seconds").check(force=True)
    spoken = point.get_attribute("aria-label") or ""
    assert f"{rows['cascade']['cost']['seconds']:.3g} device seconds a problem" in spoken


def test_points_stand_where_their_figures_are(show: Open, folders: dict[str, Path]) -> None:
    page = show("nine")
    spots = page.locator(".point").evaluate_all(
        "all => all.map((one) => { const box = one.querySelector('.dot').getBoundingClientRect();"
        " return [one.getAttribute('aria-label').split(':')[0], box.x + box.width / 2, box.y + box.height / 2]; })"
    )
    at = {name: (x, y) for name, x, y in spots}
    rows = {row["name"]: row for row in figures(folders["nine"])}
    assert at.keys() == {*rows, "oracle"}

    def along(value: Callable[[str], float], place: int) -> None:
        low, high = "intern-only", "mentor-only"
        scale = (at[high][place] - at[low][place]) / (value(high) - value(low))
        for name in rows:
            assert at[name][place] == pytest.approx(at[low][place] + scale * (value(name) - value(low)), abs=1)

    along(lambda name: rows[name]["cost"]["tflops"], 0)
    along(lambda name: rows[name]["accuracy"], 1)
    corners = page.locator("#plot path.chord").get_attribute("d") or ""
    ends = [tuple(map(float, corner.split())) for corner in corners[1:].split("L")]
    origin = page.locator("#plot svg").bounding_box() or {}
    for name, (x, y) in zip(("intern-only", "mentor-only"), ends, strict=False):
        assert (x + origin["x"], y + origin["y"]) == pytest.approx(at[name], abs=1)
    assert len(ends) == 3 and ends[2][1] == ends[1][1] and ends[2][0] > ends[1][0]  # flat beyond the mentor
    best: list[str] = []
    for name in sorted(rows, key=lambda name: (rows[name]["cost"]["tflops"], -rows[name]["accuracy"])):
        if not best or rows[name]["accuracy"] > rows[best[-1]]["accuracy"]:
            best.append(name)
    front = (page.locator("#plot path.pareto").get_attribute("d") or "")[1:].split("L")
    assert [float(c.split()[0]) + origin["x"] for c in front] == pytest.approx([at[name][0] for name in best], abs=1)


def test_what_looks_at_the_reference_is_no_part_of_the_frontier(show: Open) -> None:
    point = show("crowd").get_by_role("img", name="best-route: 98.0 %")
    assert point.locator(".dot").count() == 1 and point.locator(".front").count() == 0


def test_a_partial_strategy_is_marked_and_no_part_of_the_frontier(show: Open) -> None:
    page = show("crowd")
    point = page.get_by_role("img", name="blueprint: 99.0 %")
    assert point.locator(".dot.partial").count() == 1 and point.locator(".front").count() == 0
    assert "partial: 7 of 20 problems" in text(page.get_by_role("row", name="blueprint"))
    assert "partial: not all problems yet" in text(page.locator("#legend"))
    assert not text(page.locator("#readout")).startswith("blueprint")  # whatever it gains, others come first


@pytest.mark.parametrize("name", ["nine", "crowd", "broken", "hostile"])
def test_labels_never_collide(show: Open, name: str) -> None:
    page = show(name)
    for width in (1280, 800, 360):
        page.set_viewport_size({"width": width, "height": 900})
        wait_for_redrawing(page)
        boxes = page.locator(".labels text:not(.unplaced)").evaluate_all(
            "all => all.map((one) => { const b = one.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; })"
        )
        assert boxes
        for i, (left, top, right, bottom) in enumerate(boxes):
            for x1, y1, x2, y2 in boxes[:i]:
                assert right <= x1 or x2 <= left or bottom <= y1 + 3 or y2 <= top + 3
        area = page.locator("#plot svg").bounding_box() or {}
        assert all(left >= -1 and right <= area["width"] + 1 for left, _, right, _ in boxes)


def test_pointing_and_the_keyboard_tell_a_points_figures(show: Open, folders: dict[str, Path]) -> None:
    page = show("nine")
    rows = {row["name"]: row for row in figures(folders["nine"])}
    readout = page.locator("#readout")
    best = max(rows.values(), key=lambda row: row["gain_over_chord"]["tflops"]["value"])
    assert text(readout).startswith(best["name"])  # to begin with, the one that gains most
    spot = page.get_by_role("img", name="delegate:").locator(".dot").bounding_box() or {}
    page.mouse.move(spot["x"] + 9, spot["y"] + 9)
    assert text(readout).startswith("delegate") and f"{100 * rows['delegate']['accuracy']:.1f} %" in text(readout)
    page.locator("#unit-tflops").focus()
    page.keyboard.press("Tab")
    assert "delegate" in page.evaluate("document.activeElement.getAttribute('aria-label')")  # one stop for the chart
    page.keyboard.press("Home")
    assert text(readout).startswith("intern-only")
    seen = ["intern-only"]
    while len(seen) < 10:
        page.keyboard.press("ArrowRight")
        seen.append(page.evaluate("document.activeElement.getAttribute('aria-label')").split(":")[0])
    order = sorted(rows, key=lambda name: rows[name]["cost"]["tflops"])
    assert [name for name in seen if name != "oracle"] == order and "oracle" in seen
    assert "McNemar" in text(readout)


def test_levels_and_reliability_show_their_counts(show: Open, folders: dict[str, Path]) -> None:
    page = show("nine")
    tandem = figures(folders["nine"])[0]
    bar = page.locator("#levels").get_by_role("img", name=re.compile("^tandem: "))
    told = ", ".join(f"{name} {tandem['levels'][name]}" for name in ("none", "low", "medium", "high"))
    assert bar.first.get_attribute("aria-label") == f"tandem: {told}"
    widths = bar.first.locator("span").evaluate_all("all => all.map((one) => one.getBoundingClientRect().width)")
    counts = [tandem["levels"][name] for name in ("none", "low", "medium", "high")]
    assert [w / sum(widths) for w in widths] == pytest.approx([c / 60 for c in counts], abs=0.02)
    plots = page.locator("#reliability .multiple")
    assert plots.count() == 3
    plots.first.get_by_text("Figures").click()
    bins = json.loads((folders["nine"] / "compare.json").read_text())["reliability"]["tandem"]
    rows = [text(row) for row in plots.first.locator("tbody tr").all()]
    assert rows[0].split()[1] == str(bins[0]["n"]) and len(rows) == len(bins)
    assert text(plots.first.locator("figcaption")).startswith("tandem 60 answers; calibration error 0.")


def test_problems_are_searched_and_filtered(show: Open, folders: dict[str, Path]) -> None:
    page = show("nine")
    stores = read_comparison(folders["nine"]).stores
    right = [{r["problem"] for r in store.records() if r["correct"]} for store in stores.values()]
    everything = {r["problem"] for r in stores[0].records()}
    matched = page.locator("#matched")
    assert text(matched) == "60 problems, 1 to 50 shown" and page.locator("#list > li").count() == 50
    page.get_by_role("button", name="Next").click()
    assert text(matched) == "60 problems, 51 to 60 shown" and page.locator("#list > li").count() == 10
    page.get_by_label("Search").fill("MADE-00042")
    matched.get_by_text("1 of 60 problems").wait_for()
    assert page.locator("#list .id").all_inner_texts() == ["made-00042"]
    page.get_by_label("Search").fill("problem 7.")  # a word of its question
    page.locator("#list .id", has_text="made-00007").wait_for()
    page.get_by_label("Search").fill("nothing of the kind")
    matched.get_by_text("0 of 60 problems").wait_for()
    assert page.locator("#list > li").count() == 0 and page.locator("#pages").is_hidden()
    page.get_by_role("button", name="Clear").click()
    assert text(matched) == "60 problems, 1 to 50 shown"

    page.get_by_label("Show", exact=True).select_option(label="none right")
    wanted = everything - set().union(*right)
    assert set(page.locator("#list .id").all_inner_texts()) == wanted
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("By strategy").click()
    page.get_by_label("tandem", exact=True).select_option(label="right")
    page.get_by_label("mentor-only", exact=True).select_option(label="wrong")
    wanted = right[0] - right[1]
    assert wanted and set(page.locator("#list .id").all_inner_texts()) == wanted
    assert text(matched) == f"{len(wanted)} of 60 problems"
    marks = page.locator("#list .marks").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    assert all("tandem: right" in told and "mentor-only: wrong" in told for told in marks)


def test_a_problem_opens_with_all_that_led_to_each_answer(show: Open, folders: dict[str, Path]) -> None:
    page = show("nine")
    comparison = read_comparison(folders["nine"])
    record = next(r for r in comparison.stores[0].records() if len(r["trace"]) == 3)
    page.get_by_label("Search").fill(record["problem"])
    page.locator("#matched", has_text="1 of 60").wait_for()
    assert page.locator(".opened").count() == 0  # nothing is made before it is asked for
    button = page.get_by_role("button", name=record["problem"])
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    opened = page.locator(".opened")
    assert comparison.questions[record["problem"]] in text(opened)
    assert f"Reference {record['reference']}" in text(opened)
    lines = opened.locator("details.solved")
    assert lines.count() == 9 and opened.locator(".solution").count() == 0
    first = lines.first
    assert record["answer"] in text(first) and ("right" if record["correct"] else "wrong") in text(first)
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    shown = text(first)
    first.locator(".solution").wait_for()
    shown = text(first)
    for section, words in record["sections"].items():
        assert section.capitalize() in shown and words in shown
    steps = [text(step) for step in first.locator(".ladder > li").all()]
    for step, decision in zip(steps, record["trace"], strict=True):
        assert decision["level"] in step and f"{decision['sufficiency']:.2f} of 0.50 needed" in step
        assert {"stop": "Stop", "go_on": "Go on"}[decision["action"]] in step and decision["reason"] in step
    assert " ".join(record["text"].split()) in shown
    assert "Published TFLOPs" in shown and "Seconds of latency" in shown and "in discarded drafts" in shown
    button.click()
    assert page.locator(".opened").count() == 0 and button.get_attribute("aria-expanded") == "false"


def test_hostile_text_neither_runs_nor_breaks_the_page(show: Open) -> None:
    page = show("hostile", width=360)
    page.locator("button.open").first.click()
    for summary in page.locator("details > summary").all():
        summary.click()
    page.locator(".solution").first.wait_for()
    assert page.evaluate("window.pwned") is None and page.locator("#planted").count() == 0
    assert page.locator("script:not([type='application/json'])").count() == 1 and page.locator("body img").count() == 0
    places = ("pair", "about", "table", "notes", "skipped", "levels-legend", "reliability", "list", "readout")
    for place in (f"#{id}" for id in places):
        assert "<script>window.pwned=1</script></script>" in (page.locator(place).text_content() or ""), place
    for block in (".asked", ".solution .part", ".solution .answer"):
        assert HOSTILE in (page.locator(block).first.text_content() or ""), block
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0


def test_long_texts_say_where_they_were_cut(browser: Browser, show: Open, folders: dict[str, Path]) -> None:
    folder = folders["one"]
    long = "the beginning " + "x" * 9000 + " the end\n```python\nprint('<b>')\n```"
    write_compare(folder, problems=2, strategies=("tandem",), texts={"text": long})
    write_comparison(folder, read_comparison(folder))
    page = show("one")
    page.locator("button.open").first.click()
    answer = page.locator(".solution .answer")  # the only strategy's answer is open at once
    assert answer.locator(".cut").inner_text().endswith("characters are cut here; records.jsonl has them")
    assert "the beginning" in text(answer) and "the end" in text(answer)
    assert answer.get_by_role("region", name="code").inner_text() == "print('<b>')"


@pytest.mark.parametrize("name", ["one", "empty", "broken", "run"])
def test_little_and_broken_data_are_shown(show: Open, name: str) -> None:
    page = show(name)
    for unit in page.locator("#units input:enabled").all():
        unit.check(force=True)
    for button in page.locator("button.open").all()[:2]:
        button.click()
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0
    body = text(page.locator("main"))
    assert "NaN" not in body and "Infinity" not in body and "undefined" not in body and "[object" not in body
    if name == "empty":
        assert "No strategy has finished a problem yet." in body and "There are no records yet." in body
        assert page.locator("#frontier").is_hidden() and "best-route" in body
    if name == "broken":
        page.get_by_label("TFLOPs", exact=True).check(force=True)
        assert "At the same spot" in text(page.locator("#readout"))
        assert "Without a value on this axis: mentor-only, intern-only." in text(page.locator("#frontier"))
        assert page.get_by_label("Mentor tokens", exact=True).is_disabled()  # of those without an accuracy alone
    if name == "run":
        assert page.locator("#frontier").is_visible() and page.locator("#strategies").is_hidden()
        assert page.locator("#plot .point").count() == 1 and "right" in text(page.locator("#readout"))
        assert "accuracy 0." in text(page.locator("#facts")) and page.locator("#reliability").is_visible()
        assert text(page.locator("#warnings")) == "one line was damaged <b>"


def test_five_thousand_records_open_without_lag(show: Open) -> None:
    page = show("many")
    assert text(page.locator("#matched")) == "5,000 problems, 1 to 50 shown"
    assert page.evaluate("document.querySelectorAll('*').length") < 3000  # whatever the number of problems
    page.get_by_label("Search").fill("made-04999")
    page.locator("#list .id", has_text="made-04999").wait_for()
    page.locator("button.open").click()
    assert "Problem 4999." in text(page.locator(".asked")) and page.locator(".solution").is_visible()


def test_light_and_dark(show: Open) -> None:
    page = show("nine", theme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_role("button", name="Use the light theme").click()
    light = page.evaluate(paper)
    assert dark == "rgb(21, 22, 26)" and light == "rgb(248, 245, 239)"
    page.get_by_role("button", name="Use the dark theme").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(paper) == dark
    page.emulate_media(media="print")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    assert show("nine").evaluate(paper) == light


def test_a_browser_that_keeps_nothing_changes_theme_all_the_same(browser: Browser, folders: dict[str, Path]) -> None:
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });"
    )
    page = context.new_page()
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.goto(f"file://{folders['nine'] / 'report.html'}")
    page.get_by_role("button", name="Use the dark theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark" and thrown == []
    context.close()


def test_everything_is_reached_and_seen_by_keyboard(show: Open) -> None:
    page = show("one")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [e.id || e.getAttribute('aria-label') || e.textContent.trim().slice(0, 30),"
            " s.outlineStyle === 'solid' || e.type === 'radio' || e.classList.contains('point')]; })()"
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        seen.append(where[0])
        assert where[1], f"the focus cannot be seen on {where[0]}"
    for wanted in ("Skip to the problems", "theme", "unit-tflops", "table", "sort-accuracy", "search", "group"):
        assert wanted in seen, seen
    assert any(name.startswith("tandem: ") for name in seen) and any("made-00000" in name for name in seen)
