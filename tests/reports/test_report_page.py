"""The data of the report's page: nothing is lost, nothing breaks out of it, and what is missing does not stop it."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fabricate_compare import LADDER, costs_of, records_of, write_compare, write_run

from tandem.errors import TandemError
from tandem.ledger import Ledger
from tandem.reports.page.build import PageData, bundle, write_page
from tandem.reports.page.gather import ReportedProblem, SavedComparison, figures, finite, read_comparison
from tandem.reports.page.records import HEAD, TAIL, accepted_sufficiency, clipped, costs, detail, mark, number
from tandem.reports.page.writers import write_comparison
from tandem.runs.outcomes import AXES, MEASURES
from tandem.statistics.reliability import reliability_bins

PAGE = Path(__file__).parents[2] / "tandem" / "reports" / "page"
FEW = ("tandem", "mentor-only", "intern-only")
HOSTILE = "</script><script>alert(1)</script><!--<script> <img src=x onerror=alert(2)> ]]> &amp; \u2028 \ud800 \x00"


@dataclass
class Parsed(HTMLParser):
    """A written page, as a parser sees it: its elements, and the text of each script and style."""

    html: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    held: list[tuple[dict[str, str], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._inside: dict[str, str] | None = None
        self._text: list[str] = []
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag in ("script", "style"):
            self._inside, self._text = found | {"tag": tag}, []

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style") and self._inside is not None:
            self.held.append((self._inside, "".join(self._text)))
            self._inside = None

    def data(self, id: str) -> Any:
        return next(json.loads(text) for attrs, text in self.held if attrs.get("id") == id)

    def parts(self) -> list[Any]:
        return [json.loads(text) for attrs, text in self.held if attrs.get("id", "").startswith("part-")]


def written(folder: Path) -> tuple[Parsed, SavedComparison]:
    comparison = read_comparison(folder)
    path = write_comparison(folder, comparison)[0]
    return Parsed(path.read_text(encoding="utf-8")), comparison


def opened(page: Parsed, place: int) -> tuple[dict[str, Any], list[Any]]:
    """Return the details of a problem and the texts of its part, found as the page finds them."""
    starts = page.data("data")["problems"]["starts"]
    part = max(i for i, start in enumerate(starts) if start <= place)
    found = page.parts()[part]
    return found["problems"][place - starts[part]], found["texts"]


@pytest.mark.parametrize("unpriced", [False, True])
@pytest.mark.parametrize("strategy", FEW)
def test_costs_are_those_of_the_ledger(strategy: str, unpriced: bool) -> None:
    for place, record in enumerate(records_of(strategy, 20)):
        entries = record["ledger"]["entries"]
        if unpriced and place % 2 and entries:  # an entry that is billed and has no price, a model of unknown size
            entries[-1] |= {"usd": 0.125}
            entries[0] |= {"local": False, "usd": None, "tflops": None, "billions": None, "read_tokens": 7}
        elif place % 3 == 0 and entries:
            entries[-1] |= {"usd": 0.25, "local": False}
        wanted = costs_of(record)
        assert wanted.keys() == set(MEASURES)
        found = costs(record)
        assert {name: found[name] for name in wanted} == {
            name: None if value is None else pytest.approx(value, rel=1e-4) for name, value in wanted.items()
        }
        assert found["probe_tokens"] == Ledger.model_validate(record["ledger"]).probe_tokens


def test_costs_of_what_is_no_ledger_are_none() -> None:
    for broken in ({}, {"ledger": None}, {"ledger": {"entries": None}}, {"ledger": {"entries": ["x"]}}):
        assert costs(broken) == {
            "usd": None,
            "tflops": None,
            "tflops_published": None,
            "seconds": None,
            "latency": None,
            "mentor_tokens": 0,
            "intern_tokens": 0,
            "probe_tokens": 0,
        }


def test_a_mark_says_what_came_of_a_problem() -> None:
    right = {"correct": True, "error": None, "truncated": False}
    assert mark(right) == "r" and mark(right | {"truncated": True}) == "R"
    assert mark(right | {"correct": False}) == "w" and mark(right | {"correct": None}) == "u"
    assert mark(right | {"error": "no luck"}) == "e" and mark(None) == "-"


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "a" * HEAD + "b" * 17 + "c" * TAIL
    assert clipped(text) == ["a" * HEAD, 17, "c" * TAIL]
    assert clipped(text[:-17]) == text[:-17]  # just within the limit
    assert clipped(None) == "" and clipped(12) == "12"


def test_numbers_that_json_does_not_know_are_none() -> None:
    assert [number(v) for v in (float("nan"), float("inf"), True, "1", None, 10**400)] == [None] * 6
    assert number(3) == 3 and number(0.123456789) == 0.12346
    assert finite({"a": [float("nan"), {"b": float("-inf")}, 1.5, "x"]}) == {"a": [None, {"b": None}, 1.5, "x"]}


def test_details_leave_out_what_is_empty_and_do_not_repeat_the_insight() -> None:
    kept: list[Any] = []

    def keep(text: Any) -> int:
        kept.append(text)
        return len(kept) - 1

    record = next(r for r in records_of("tandem", 30) if len(r["trace"]) > 1)
    found = detail(record, keep)
    assert [name for name, _ in found["sections"]] == list(record["sections"]) and "insight" not in found
    assert [kept[place] for _, place in found["sections"]] == list(record["sections"].values())
    levels = [decision[0] for decision in found["trace"]]
    assert levels == list(LADDER[: len(levels)]) and found["trace"][-1][1] == "stop"
    assert kept[found["text"]] == record["text"] and "error" not in found
    bare = detail({"problem": "p", "correct": None, "error": "it broke", "ledger": {"entries": []}}, keep)
    assert bare.keys() == {"error", "cost"}


def test_every_problem_is_listed_with_all_that_was_answered(tmp_path: Path) -> None:
    page, comparison = written(write_compare(tmp_path, problems=90, strategies=FEW, words=900))
    problems = page.data("data")["problems"]
    assert len(problems["ids"]) == 90 and len(problems["starts"]) == len(page.parts()) > 1  # read in several parts
    stores = [{r["problem"]: r for r in comparison.stores[place].records()} for place in range(3)]
    for place, id in enumerate(problems["ids"]):
        found, texts = opened(page, place)
        rows = [store[id] for store in stores]
        assert problems["marks"][place] == "".join(map(mark, rows))
        assert texts[found["question"]].startswith(f"Problem {place}.") and found["reference"] == rows[0]["reference"]
        for strategy, row in enumerate(rows):
            shown = found["records"][str(strategy)]
            text = texts[shown["text"]]
            whole = text if isinstance(text, str) else text[0] + text[2]
            assert whole[:HEAD] == row["text"][:HEAD] and whole[-TAIL:] == row["text"][-TAIL:]
            assert shown["answer"] == row["answer"] and shown["level"] == row["level"]


def test_texts_that_strategies_share_are_held_once() -> None:
    data = PageData(2)
    record = records_of("mentor-only", 1)[0]
    data.add(ReportedProblem("p", "why?", {0: record, 1: record | {"strategy": "cascade"}}))
    data.listed()
    assert data.parts[0].count(record["text"].split("\n")[0]) == 1


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    fields = ("problem", "question", "answer", "text", "reference", "section", "insight")
    folder = write_compare(tmp_path, problems=2, strategies=FEW, texts=dict.fromkeys(fields, HOSTILE))
    raw = json.loads((folder / "compare.json").read_text())
    raw["pair"] = {"mentor": HOSTILE, "intern": HOSTILE}
    raw["strategies"][0] |= {"name": HOSTILE, "notes": [HOSTILE], "levels": {HOSTILE: 2}}
    raw["strategies"].append({"name": HOSTILE, "status": "skipped", "reason": HOSTILE})
    (folder / "compare.json").write_text(json.dumps(raw))
    page, _ = written(folder)
    plain, _ = written(write_compare(tmp_path / "plain", problems=2, strategies=FEW))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]  # not one element more
    found, texts = opened(page, 0)
    assert page.data("data")["problems"]["ids"][0] == HOSTILE and page.data("data")["pair"]["mentor"] == HOSTILE
    assert texts[found["question"]] == HOSTILE and found["records"]["1"]["answer"] == HOSTILE
    table = (folder / "report.md").read_text()
    assert "<script>" not in table and "<img" not in table


def test_the_page_allows_its_own_script_and_style_and_nothing_else(tmp_path: Path) -> None:
    page, _ = written(write_compare(tmp_path, problems=1, strategies=FEW))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    runs = [(a["tag"], text) for a, text in page.held if a.get("type") in (None, "module")]
    assert [tag for tag, _ in runs] == ["style", "script"]
    for tag, text in runs:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[f"{tag}-src"] == f"'sha256-{digest}'"
    assert allowed["default-src"] == "'none'" and "unsafe" not in policy
    assert not [attrs for _, attrs in page.tags if "src" in attrs or attrs.get("href", "#")[:1] not in ("#", "d")]
    assert set(re.findall(r"https?://[\w.]+", page.html)) == {"http://www.w3.org"}  # the name space of SVG


def test_the_scripts_make_one_module_that_handles_text_as_text() -> None:
    names = re.findall(r'"([a-z]+\.js)"', (PAGE / "build.py").read_text())
    assert sorted(names) == sorted(path.name for path in PAGE.glob("*.js"))
    script = bundle(names)
    assert not re.search(r"^\s*(import|export) ", script, re.M) and "</" not in script and "<!--" not in script
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|fetch\(", script)


def test_a_comparison_that_lacks_nearly_everything_is_shown(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(
        '{"format": 1, "strategies": [{"name": "a", "status": "finished", "accuracy": NaN, "cost": {"usd": Infinity}, '
        '"accuracy_ci95": null, "levels": null, "gain_over_chord": {"usd": null}, "against_mentor": null}, '
        '{"name": "b", "status": "skipped", "reason": null}, {}, 7], "oracle": null, "reliability": {"a": null}}'
    )
    page, comparison = written(tmp_path)
    shown = page.data("data")
    assert [one["status"] for one in shown["strategies"]] == ["finished", "skipped", "skipped"]
    assert shown["strategies"][0]["accuracy"] is None and shown["strategies"][0]["cost"]["usd"] is None
    assert shown["problems"]["ids"] == [] and shown["oracle"]["accuracy"] is None
    assert len(comparison.warnings) == 1 and "the records of a are left out" in comparison.warnings[0]
    assert shown["warnings"] == comparison.warnings
    assert "b: no reason was given" in (tmp_path / "report.md").read_text()


def test_figures_come_through_as_they_were_written(tmp_path: Path) -> None:
    folder = write_compare(tmp_path, problems=20, skipped={"route": "too few"})
    raw = json.loads((folder / "compare.json").read_text())
    shown = figures(raw)
    for before, after in zip(raw["strategies"], shown["strategies"], strict=True):
        assert (after["name"], after["status"]) == (before["name"], before["status"])
        if before["status"] == "skipped":
            assert after["reason"] == "too few"
            continue
        assert after["accuracy"] == pytest.approx(before["accuracy"], rel=1e-4)
        assert after["interval"] == pytest.approx(before["accuracy_ci95"], rel=1e-4)
        assert after["levels"] == before["levels"] and after["truncated"] == before["truncated"]
        assert after["cost"]["usd"] is None and after["gain_over_chord"]["usd"]["value"] is None  # there are no prices
        for unit in set(AXES) - {"usd"}:
            assert after["cost"][unit] == pytest.approx(before["cost"][unit], rel=1e-4)
            assert after["gain_over_chord"][unit] == pytest.approx(before["gain_over_chord"][unit], rel=1e-3)
        assert after["against_mentor"]["mcnemar_p"] == pytest.approx(before["against_mentor"]["mcnemar_p"], rel=1e-4)
    assert shown["reliability"].keys() == raw["reliability"].keys()


def test_the_seconds_of_a_comparison_of_format_1_are_latency(tmp_path: Path) -> None:
    folder = write_compare(tmp_path, problems=8, strategies=FEW)
    raw = json.loads((folder / "compare.json").read_text())
    for name in ("unit", "notes", "verdict"):
        del raw[name]
    for one in (*raw["strategies"], raw["oracle"]):
        for name in {"cost", "gain_over_chord", "ace", "headroom_share"} & one.keys():
            one[name]["seconds"] = one[name].pop("latency")
    raw |= {"format": 1, "units": ["tflops", "tflops_published", "mentor_tokens", "usd", "seconds"]}
    (folder / "compare.json").write_text(json.dumps(raw))
    page, comparison = written(folder)
    shown = page.data("data")
    assert shown["unit"] == "tflops" and shown["verdict"] is None and comparison.raw == raw
    for before, after in zip(raw["strategies"], shown["strategies"], strict=True):
        assert after["cost"]["seconds"] is None and after["gain_over_chord"]["seconds"]["value"] is None
        assert after["cost"]["latency"] == pytest.approx(before["cost"]["seconds"], rel=1e-4)
        assert after["gain_over_chord"]["latency"]["value"] == pytest.approx(
            before["gain_over_chord"]["seconds"]["value"], rel=1e-3
        )
    assert shown["oracle"]["cost"]["latency"] == pytest.approx(raw["oracle"]["cost"]["seconds"], rel=1e-4)


def test_runs_elsewhere_and_runs_that_differ_in_their_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_compare(tmp_path / "c", problems=4, strategies=FEW)
    shutil.move(folder / "tandem", tmp_path / "elsewhere")
    shutil.move(folder / "mentor-only", tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    raw = json.loads((folder / "compare.json").read_text())
    raw["strategies"][0]["folder"] = str(tmp_path / "elsewhere")
    raw["strategies"][1]["folder"] = "here"  # as seen from where the command runs
    (folder / "compare.json").write_text(json.dumps(raw))
    lines = (folder / "intern-only" / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "intern-only" / "records.jsonl").write_bytes(lines[2] + lines[0][:-20] + b"\n")
    page, comparison = written(folder)
    listed = page.data("data")["problems"]
    assert listed["ids"] == [f"made-{i:05d}" for i in range(4)]
    assert [marks[2] == "-" for marks in listed["marks"]] == [True, True, False, True]
    assert all("-" not in marks[:2] for marks in listed["marks"])
    assert "line 2" in comparison.warnings[0]


def test_a_format_of_another_version_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text('{"format": 3}')
    with pytest.raises(TandemError, match=r"has format 3 and this version of Tandem reads up to 2"):
        read_comparison(tmp_path)
    (tmp_path / "compare.json").write_text("{")
    with pytest.raises(TandemError, match="damaged: it is not JSON"):
        read_comparison(tmp_path)
    (tmp_path / "compare.json").write_text("[]")
    with pytest.raises(TandemError, match="not a JSON object"):
        read_comparison(tmp_path)


def test_no_record_is_validated_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_compare(tmp_path, problems=10, strategies=FEW)

    def refuse(*_: Any) -> None:
        raise AssertionError("a ledger was built for a record")

    monkeypatch.setattr(Ledger, "model_validate", refuse)
    page, _ = written(folder)
    assert len(page.data("data")["problems"]["ids"]) == 10


def test_the_files_beside_the_page_have_a_row_for_each_strategy_and_problem(tmp_path: Path) -> None:
    folder = write_compare(tmp_path, problems=3, strategies=FEW, skipped={"route": "it | broke"}, prices=True)
    written(folder)
    with (folder / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["strategy"]) for row in rows] == [(f"made-{i:05d}", name) for i in range(3) for name in FEW]
    record = next(read_comparison(folder).stores[0].records())
    assert rows[0]["correct"] == str(record["correct"]).lower() and rows[0]["level"] == record["level"]
    columns = {"seconds": "device_seconds", "latency": "latency_seconds"}  # a cell has no unit: its column says it
    for name, value in costs_of(record).items():
        assert value is not None and float(rows[0][columns.get(name, name)]) == pytest.approx(value, rel=1e-4)
    table = (folder / "report.md").read_text()
    raw = json.loads((folder / "compare.json").read_text())["strategies"][0]
    assert f"| tandem | {100 * raw['accuracy']:.1f} % [" in table and "- route: it \\| broke" in table
    assert f"| {100 * raw['gain_over_chord']['usd']['value']:+.1f} [" in table  # by US$, which are known
    assert "- tandem: uncalibrated" in table


def test_reliability_is_that_of_the_answers_that_were_accepted() -> None:
    assert accepted_sufficiency({"correct": True, "trace": [{"action": "stop", "sufficiency": 0.7}]}) == (0.7, True)
    assert accepted_sufficiency({"correct": True, "trace": [{"action": "answer", "sufficiency": 0.7}]}) is None
    assert accepted_sufficiency({"correct": None, "trace": [{"action": "stop", "sufficiency": 0.7}]}) is None
    assert accepted_sufficiency({"correct": True, "trace": [{"action": "stop", "sufficiency": None}]}) is None
    bins = reliability_bins([(0.72, True), (0.78, False), (1.0, True), (0.0, False)])
    assert [(b["low"], b["n"], b["observed"]) for b in bins] == [(0.0, 1, 0.0), (0.7, 2, 0.5), (0.9, 1, 1.0)]
    assert bins[1]["predicted"] == pytest.approx(0.75)


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(TandemError, match="cannot write"):
        write_page(tmp_path / "missing" / "report.html", "a title", {}, PageData(1))


def test_a_run_written_without_questions_is_read(tmp_path: Path) -> None:
    folder = write_compare(tmp_path, problems=2, strategies=FEW, questions=False)
    page, _ = written(folder)
    assert page.data("data")["problems"]["excerpts"] == ["", ""] and opened(page, 1)[0]["question"] is None
    write_run(folder / "tandem", "tandem", [])  # nothing in it yet
    page, _ = written(folder)
    assert [marks[0] for marks in page.data("data")["problems"]["marks"]] == ["-", "-"]


def test_colours_keep_their_contrast() -> None:
    style = (PAGE / "style.css").read_text()
    found = {m[1]: m.groups()[1:] for m in re.finditer(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)}

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def contrast(one: str, other: str, theme: int) -> float:
        low, high = sorted((light(found[one][theme]), light(found[other][theme])))
        return (high + 0.05) / (low + 0.05)

    texts = ("ink", "muted", "mentor", "intern", "bad", "gold", "warn")
    wanted = [(text, ground) for text in texts for ground in ("paper", "card")]
    wanted += [("warn", "warn-soft"), ("on", "mentor"), ("on", "intern")]
    wanted += [(f"on-{i}", f"hue-{i}") for i in range(6)]
    faint = [(pair, theme) for pair in wanted for theme in (0, 1) if contrast(*pair, theme) < 4.5]
    assert faint == []
    for theme in (0, 1):  # told apart without their hue
        steps = [light(found[f"hue-{i}"][theme]) for i in range(6)]
        assert steps in (sorted(steps), sorted(steps, reverse=True))
