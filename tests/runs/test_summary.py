"""Figures of a run: sums that know what is unknown, intervals and tests against values worked out elsewhere."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tandem.costs import assumed_profile
from tandem.ledger import Entry, Ledger, Role, Usage
from tandem.reports.run import cost_rows
from tandem.runs.summary import Summary, summarise
from tandem.spec import ModelSpec, Prices, SpeedProfile
from tandem.statistics.significance import mcnemar, paired_bootstrap, wilson

PRICED = ModelSpec(name="api", local=False, prices=Prices(input=1.0, output=10.0))
UNPRICED = ModelSpec(name="free?", local=False)
LOCAL = ModelSpec(name="here", parameters=1e9, assumed_parameters=True)


def entry(spec: ModelSpec, role: Role = "mentor", completion: int = 100, **more: Any) -> Entry:
    usage = Usage(prompt=1000, completion=completion, completion_bound=more.pop("bound", None))
    made = Entry.of(spec, role, more.pop("purpose", "answer"), usage, seconds=1.0, error=more.pop("error", None))
    return made.model_copy(update=more)


def record(*entries: Entry, correct: bool | None = True, error: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "problem": "p",
        "correct": correct,
        "error": error,
        "level": None if error else "low",
        "answered_by": None if error else "intern",
        "truncated": False,
        "seconds": 2.0,
        "synthetic": False,
        "ledger": Ledger(entries=list(entries)).model_dump(mode="json"),
        **more,
    }


def test_a_summary_is_the_sum_over_all_calls() -> None:
    records = [
        record(entry(PRICED, completion=50, bound=200), entry(LOCAL, "intern", purpose="probe")),
        record(entry(PRICED), entry(LOCAL, "intern"), correct=False, truncated=True),
        record(entry(PRICED, error="cut"), error="no luck", correct=False),
        record(entry(PRICED, paid=False), correct=None, level="none", synthetic=True),
    ]
    ledger = Ledger(entries=[e for r in records for e in Ledger.model_validate(r["ledger"])])
    summary = summarise(iter(records), {"id": "c", "match": "exact"})
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["n"], summary["graded"], summary["errors"], summary["failed_calls"]) == (4, 3, 1, 1)
    assert summary["accuracy"] == 1 / 3 and summary["accuracy_ci95"] == list(wilson(1, 3) or ())
    for name in ("mentor_tokens", "intern_tokens", "probe_tokens"):
        assert summary[name] == getattr(ledger, name)
    assert summary["usd"] == pytest.approx(ledger.usd) and summary["usd_bound"] == pytest.approx(ledger.usd_bound)
    assert summary["usd"] == pytest.approx((4 * 1000 * 1 + 350 * 10) / 1e6)
    assert summary["usd_bound"] == pytest.approx(summary["usd"] + 150 * 10 / 1e6)
    assert summary["usd_paid"] == pytest.approx(summary["usd"] - 2000 / 1e6)  # one came out of the cache
    assert summary["tflops"] is None  # nobody knows the size of what is behind the API
    assert summary["levels"] == {"low": 2, "none": 1} and summary["truncated"] == {"mentor": 0, "intern": 1}
    assert summary["seconds"] == 8.0 and summary["synthetic"] is True and summary["tflops_assumed"] is True
    assert summary["classifier"] == {"id": "c", "match": "exact"}


def test_cost_has_means_totals_and_both_parts_in_every_unit() -> None:
    records = [record(entry(PRICED), entry(LOCAL, "intern")), record(entry(LOCAL, "intern", completion=50))]
    found = summarise(records, None, "usd")
    assert found["unit"] == "usd"
    mentor = (1000 * 1 + 100 * 10) / 1e6
    assert found["cost"]["usd"] == {"mean": mentor / 2, "total": mentor, "mentor": mentor, "intern": None}
    assert found["cost"]["mentor_tokens"] == {"mean": 50.0, "total": 100.0, "mentor": 100.0, "intern": 0.0}
    tflops = found["cost"]["tflops"]  # of the one behind the API nobody knows the size
    assert tflops["total"] is tflops["mean"] is tflops["mentor"] is None
    assert tflops["intern"] == pytest.approx(2e9 * (1100 + 1050) / 1e12)
    assert found["cost"]["seconds"] == dict.fromkeys(("mean", "total", "mentor", "intern"))


def test_a_cost_by_an_assumed_speed_is_marked() -> None:
    slow = LOCAL.model_copy(update={"profile": assumed_profile(LOCAL), "usd_per_device_hour": 2.0, "name": "slow"})
    found = summarise([record(entry(PRICED), entry(slow, "intern"))], None, "usd")
    assert found["assumed"] == ["usd", "seconds", "tflops", "tflops_published"]
    labels = [row[0] for row in cost_rows(found)]
    assert "US$, assumed speed" in labels and "TFLOPs, assumed sizes" in labels
    measured = slow.model_copy(update={"profile": SpeedProfile(model="slow", uncached=1, cached=0, written=2)})
    assert summarise([record(entry(measured))], None)["assumed"] == ["tflops", "tflops_published"]
    assert summarise([record(entry(PRICED))], None)["assumed"] == []


def test_a_sum_with_an_unknown_part_is_unknown_in_any_order() -> None:
    parts = [record(entry(PRICED)), record(entry(UNPRICED)), record(entry(LOCAL))]
    for some in itertools.permutations(parts):
        assert summarise(some, None)["usd"] is None
        assert summarise([r for r in some if r is not parts[1]], None)["usd"] == pytest.approx(2000 / 1e6)
    only_local = summarise([parts[2], record(error="no luck", correct=False)], None)
    assert only_local["usd"] is only_local["usd_bound"] is only_local["usd_paid"] is None
    assert only_local["tflops"] == pytest.approx(2e9 * 1100 / 1e12)  # a failed problem without calls costs nothing


def test_what_came_from_the_cache_alone_was_not_paid() -> None:
    summary = summarise([record(entry(PRICED, paid=False))], None)
    assert summary["usd"] == pytest.approx(2000 / 1e6) and summary["usd_paid"] == 0.0


def test_a_summary_of_nothing() -> None:
    summary = Summary().result(None)
    assert summary["accuracy"] is summary["accuracy_ci95"] is summary["usd"] is summary["tflops"] is None
    assert summary["n"] == 0


def test_records_of_before_the_newer_fields_are_read() -> None:
    old = record(entry(PRICED))
    for made in old["ledger"]["entries"]:
        for name in ("error", "call", "paid"):
            del made[name]
        del made["usage"]["prompt_bound"]
    assert summarise([old], None)["usd"] == pytest.approx(2000 / 1e6)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == 2 / 32
    assert mcnemar(3, 12) == pytest.approx(0.03515625)  # scipy.stats.binomtest(3, 15).pvalue
    assert 0 < mcnemar(1000, 1200) < 1e-4


def test_the_paired_bootstrap_is_that_of_the_pairs() -> None:
    assert paired_bootstrap(0, 0, 0) is None
    assert paired_bootstrap(0, 0, 9) == (0.0, 0.0)
    low, high = paired_bootstrap(30, 10, 200) or (0, 0)
    assert low < 0.1 < high
    # the normal approximation: 0.1 +- 1.96 sqrt((40/200 - 0.01) / 200)
    assert (low, high) == pytest.approx((0.0396, 0.1604), abs=0.006)
    assert paired_bootstrap(30, 10, 200) == (low, high)  # the same again
    flipped = paired_bootstrap(10, 30, 200) or (0, 0)
    assert flipped == pytest.approx((-high, -low), abs=0.006)
