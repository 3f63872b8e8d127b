"""Usage is what the ledger sums to, for one choice and for several, whole and streamed; /metrics agrees with both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from serving import ANSWER, QUESTION, Server, chat, events

from tandem.ledger import Ledger, Role
from tandem.models.base import TEMPLATE

Start = Callable[..., Server]
PRICES = "fake-mentor: {input: 10, output: 40}\nfake-intern: {input: 1, output: 4}\n"
MODELS = ["tandem", "tandem:low", "intern", "mentor", "fixed:medium", "budget-forcing:5"]


def expected(ledger: Ledger, prompt: int) -> dict[str, Any]:
    """Return the usage that a ledger makes, without what no ledger knows."""

    def role(name: Role, other: Any) -> dict[str, Any]:
        entries = ledger.select(name)
        return {
            "prompt": sum(e.usage.prompt for e in entries),
            "cached": 0,
            "completion": sum(e.usage.completion for e in entries),
            other: ledger.tokens(name, other),
            "answer": ledger.tokens(name, "answer"),
            "usd": pytest.approx(sum(e.usd or 0 for e in entries)) if entries else None,
            "tflops": pytest.approx(sum(e.tflops or 0 for e in entries)) if entries else None,
            "device_seconds": None,
        }

    insight, answer = ledger.tokens("mentor", "insight"), ledger.tokens(purpose="answer")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": insight + answer,
        "total_tokens": prompt + insight + answer,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": insight},
        "tandem": {
            "mentor": role("mentor", "insight"),
            "intern": role("intern", "probe"),
            "unit": "usd",
            "usd": pytest.approx(ledger.usd),
            "device_seconds": None,
            "tflops": pytest.approx(ledger.tflops),
            "tflops_published": pytest.approx(ledger.tflops_published),
        },
    }


def told(usage: dict[str, Any]) -> dict[str, Any]:
    """Return a usage without what the clock and the comparison say."""
    kept = {name: value for name, value in usage["tandem"].items() if name not in ("seconds", "mentor_alone")}
    return usage | {"tandem": kept}


@pytest.fixture
def priced(start: Start, climbing: str, tmp_path: Path) -> Server:
    (prices := tmp_path / "prices.yaml").write_text(PRICES)
    return start(classifier=climbing, prices=prices)


@pytest.mark.parametrize("model", MODELS)
def test_usage_is_the_ledgers(priced: Server, model: str) -> None:
    whole = priced.ask(model)["usage"]
    assert told(whole) == expected(priced.ledgers[-1], len(QUESTION.split()))
    chunks = events(priced.post(chat(model, stream=True, stream_options={"include_usage": True})))
    assert chunks[-2]["choices"] == [] and told(chunks[-2]["usage"]) == told(whole)


def test_usage_by_role(priced: Server) -> None:
    usage = priced.ask()["usage"]
    mentor, intern = usage["tandem"]["mentor"], usage["tandem"]["intern"]
    assert (mentor["insight"], mentor["answer"], mentor["completion"]) == (23, 0, 23)
    answer = len(ANSWER.split())
    assert (intern["probe"], intern["answer"], intern["completion"]) == (12, answer, 12 + answer)
    assert usage["completion_tokens"] == 23 + answer  # drafts that were thrown away are nobody's answer
    assert usage["tandem"]["usd"] == pytest.approx(mentor["usd"] + intern["usd"])
    assert usage["tandem"]["seconds"] > 0


def test_the_mentor_alone_is_estimated_from_its_own_answers_and_not_from_the_interns_text(priced: Server) -> None:
    card = priced.service.engine.plan().card
    assert card is not None
    usual = round(card.figures["anchors"]["mentor-only"]["mentor_tokens"])
    alone = priced.ask()["usage"]["tandem"]["mentor_alone"]
    assert alone["estimate"] is True and alone["bound"] is False and alone["tokens"] == usual
    assert alone["basis"] == f"its mean answer of {usual} tokens when the classifier was trained"
    prompt = priced.ask("mentor")["usage"]["tandem"]["mentor"]["prompt"] + TEMPLATE
    assert alone["usd"] == pytest.approx((prompt * 10 + usual * 40) / 1e6)
    assert alone["tflops"] > 0 and alone["device_seconds"] is None


def test_where_the_mentor_answered_its_answer_is_what_it_costs_alone(priced: Server) -> None:
    own = priced.ask("mentor")["usage"]["tandem"]
    assert own["mentor_alone"]["tokens"] == own["mentor"]["answer"] and own["mentor_alone"]["basis"] == "its own answer"
    assert own["mentor_alone"]["usd"] == pytest.approx(own["usd"])


def test_a_mentor_whose_answers_are_not_known_is_bounded_by_its_cap(plain: Server) -> None:
    alone = plain.ask("intern", max_tokens=50)["usage"]["tandem"]["mentor_alone"]
    assert alone["bound"] is True and alone["tokens"] == 50 and alone["basis"] == "every answer at the cap of 50 tokens"


def test_an_intern_on_own_hardware_costs_nothing_beside_a_mentor_with_a_price(start: Start, tmp_path: Path) -> None:
    (prices := tmp_path / "prices.yaml").write_text("fake-mentor: {input: 10, output: 40}\n")
    usage = start(prices=prices).ask("intern")["usage"]["tandem"]
    assert usage["usd"] == 0 and usage["unit"] == "usd"


def test_choices_are_summed(priced: Server) -> None:
    usage = priced.ask(n=3, temperature=0.5)["usage"]
    assert told(usage) == expected(priced.ledgers[-1], len(QUESTION.split()))  # the prompt once, as OpenAI counts it
    assert usage["tandem"]["intern"]["answer"] == 3 * len(ANSWER.split())
    assert usage["tandem"]["mentor_alone"]["tokens"] == 3 * priced.ask()["usage"]["tandem"]["mentor_alone"]["tokens"]


def test_the_mentors_answer_is_no_reasoning(priced: Server) -> None:
    usage = priced.ask(tandem={"effort": "none,low,answer"})["usage"]
    assert told(usage) == expected(priced.ledgers[-1], len(QUESTION.split()))
    assert usage["tandem"]["intern"]["answer"] == 0 and usage["tandem"]["mentor"]["answer"] == 4


def test_without_prices_there_is_no_price(plain: Server) -> None:
    usage = plain.ask()["usage"]["tandem"]
    assert usage["usd"] is usage["intern"]["usd"] is usage["mentor_alone"]["usd"] is None


def total(usages: Sequence[dict[str, Any]], role: str, purpose: str) -> float:
    return sum(usage["tandem"][role].get(purpose) or 0 for usage in usages)


def test_metrics_agree_with_the_client(priced: Server) -> None:
    usages = [priced.ask(model)["usage"] for model in MODELS]
    usages.append(priced.ask(n=2, temperature=0.5)["usage"])
    for model in ("tandem", "intern"):
        chunks = events(priced.post(chat(model, stream=True, stream_options={"include_usage": True})))
        usages.append(chunks[-2]["usage"])
    priced.idle()
    assert priced.post(chat("nobody")).status_code == 404
    assert priced.post({"model": "tandem"}).status_code == 400

    count = priced.metrics
    assert count("tandem_requests_total", status="200") == len(usages)
    assert count("tandem_requests_total", status="200", model="tandem") == 3
    assert count("tandem_requests_total", status="200", model="budget-forcing") == 1  # not one for every number
    assert count("tandem_requests_total", model="unknown") == 2
    assert count("tandem_requests_total", status="404") == count("tandem_requests_total", status="400") == 1
    for role in ("mentor", "intern"):
        for purpose in ("insight", "probe", "answer"):
            assert count("tandem_tokens_total", role=role, purpose=purpose) == total(usages, role, purpose)
        assert count("tandem_prompt_tokens_total", role=role) == total(usages, role, "prompt")
        assert count("tandem_usd_total", role=role) == pytest.approx(total(usages, role, "usd"))
    assert count("tandem_end_seconds_count") == count("tandem_levels_total") == len(usages) + 1  # one had two choices
    assert count("tandem_levels_total", level="low") == 1
    assert count("tandem_decisions_total", level="none", action="go_on") == 5
    assert count("tandem_sufficiency_count", level="none") == 5
    assert count("tandem_requests_running") == count("tandem_requests_waiting") == 0


def test_metrics_are_in_prometheus_format(plain: Server) -> None:
    with plain.http() as client:
        response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE tandem_requests_total counter" in response.text
