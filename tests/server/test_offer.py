"""What is on offer: every strategy is a model, a request changes settings for itself, and nothing of it stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import ANSWER, BY_MENTOR, INSIGHT, LADDER, Server, chat, classifier, events, mentor

from tandem.models.fake import FakeModel

Start = Callable[..., Server]
PRICES = "fake-mentor: {input: 10, output: 40}\nfake-intern: {input: 1, output: 4}\n"


def calls(server: Server) -> tuple[int, int]:
    """Return how many calls the mentor and the intern had."""
    assert isinstance(server.mentor, FakeModel) and isinstance(server.intern, FakeModel)
    return len(server.mentor.calls), len(server.intern.calls)


def path(server: Server, **fields: Any) -> list[str]:
    """Return the levels that a question visited."""
    fields = {"tandem": {"events": True, **fields.pop("tandem", {})}, **fields}
    chunks = events(server.post(chat(stream=True, **fields)))
    told = [chunk.get("tandem") or {} for chunk in chunks[:-1]]
    return [one["level"] for one in told if one.get("type") == "decision"]


def test_every_listed_model_is_described_and_answers(start: Start) -> None:
    server = start()
    with server.openai() as client:
        listed = client.models.list().data
        assert [model.id for model in listed] == [
            *("tandem", "tandem:none", "tandem:low", "tandem:medium", "tandem:high", "intern", "mentor"),
            *("fixed:none", "fixed:low", "fixed:medium", "fixed:high", "budget-forcing"),
        ]
        for model in listed:
            assert client.models.retrieve(model.id) == model
            assert (model.object, model.owned_by) == ("model", "tandem")
            found = client.chat.completions.create(model=model.id, messages=[{"role": "user", "content": "1+1?"}])
            assert found.choices[0].message.content and found.model == model.id
        by_name = {model.id: model.to_dict()["tandem"] for model in listed}
    assert by_name["tandem:low"] == {"strategy": "tandem", "roles": ["mentor", "intern"]}
    assert by_name["intern"] == {"strategy": "intern-only", "roles": ["intern"]}
    assert by_name["fixed:high"] == {"strategy": "fixed:high=30", "roles": ["mentor", "intern"]}  # as on the ladder


@pytest.mark.parametrize(
    "name",
    ["gpt-4o", "published:/etc", "published", "tandem:lowest", "tandem:../x", "tandem:", "fixed:", "fixed:x", ""],
)
def test_no_model_is_made_up(plain: Server, name: str) -> None:
    with plain.http() as client:
        described = client.get(f"/v1/models/{name}") if name else None
    asked = plain.post(chat(name))
    for response in (described, asked):
        if response is not None:
            assert response.status_code == 404
            error = response.json()["error"]
            assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_the_servers_own_strategy_is_a_model_too(start: Start) -> None:
    server = start(strategy="fixed:medium=7")
    with server.http() as client:
        assert client.get("/v1/models").json()["data"][0]["id"] == "fixed:medium=7"
        assert client.get("/v1/tandem").json()["strategy"] == "fixed:medium=7"
    assert server.ask("fixed:medium=7")["usage"]["tandem"]["mentor"]["insight"] == 7
    assert server.ask("fixed:low=3")["usage"]["tandem"]["mentor"]["insight"] == 3  # of a request's own
    assert server.ask("tandem")["choices"][0]["message"]["content"] == ANSWER


def test_the_pair_is_described(start: Start, low: str, tmp_path: Path) -> None:
    server = start(classifier=low, aims={"cost:0.6": classifier(tmp_path / "cheap", none=0)})
    with server.http() as client:
        about = client.get("/v1/tandem").json()
    assert (about["mentor"], about["intern"]) == ({"name": "fake-mentor"}, {"name": "fake-intern"})
    assert about["ladder"][:2] == [{"name": "none", "tokens": 0}, {"name": "low", "tokens": 5}]
    assert about["classifier"] == {"id": "at-low", "match": "exact"}
    assert (about["strategy"], about["aims"], about["synthetic"]) == ("tandem", ["cost:0.6"], True)
    assert about["version"].count(".") == 2


def with_points(folder: str) -> str:
    """Give a classifier points in two units: one problem's kind stops at once, all others climb."""
    file = Path(folder) / "card.json"
    card = json.loads(file.read_text())
    names = ("none", "low", "medium", "high")
    never, always = ({"thresholds": dict.fromkeys(names, bound)} for bound in (2.0, 0.0))
    point = {"ladder": card["ladder"], "draft_tokens": 4, "policy": never}
    short = {"ladder": "none,low=5,answer", "draft_tokens": 4, "policy": never}
    card["points"] = {
        "tflops": {card["aim"]: {"code": point | {"policy": always}, "all": point}, "cost:0.5": {"all": short}},
        "mentor_tokens": {card["aim"]: {"all": short | {"ladder": "none,high=23"}}},
    }
    file.write_text(json.dumps(card))
    return folder


def test_a_requests_kind_unit_and_aim_choose_the_point_that_decides(start: Start, climbing: str) -> None:
    server = start(classifier=with_points(climbing), effort=None)
    assert path(server, tandem={"task": "code"}) == ["none"]
    assert path(server, tandem={"task": "math"}) == ["none", "low", "medium", "high"]
    assert path(server, tandem={"task": "math", "aim": "cost:0.5"}) == ["none", "low"]  # then the mentor answers
    assert path(server, tandem={"unit": "mentor-tokens"}) == ["none", "high"]
    with server.http() as client:
        about = client.get("/v1/tandem").json()
    assert about["units"] == ["tflops", "mentor_tokens"] and "cost:0.5" in about["aims"]
    assert about["ladders"]["code"] == about["ladder"] and about["classifier"]["unit"] == "tflops"
    for wish, param in (({"aim": "gain"}, "tandem.aim"), ({"unit": "hours"}, "tandem.unit")):
        error = server.post(chat(tandem=wish | {"effort": "none"}))
        assert (error.status_code, error.json()["error"]["param"]) == (400, param)
    assert "it has accuracy, cost:0.5" in server.post(chat(tandem={"aim": "gain"})).json()["error"]["message"]


def test_the_roles_alone(start: Start) -> None:
    server = start()
    assert server.ask("intern")["choices"][0]["message"]["content"] == ANSWER
    assert calls(server) == (0, 1)
    assert server.ask("mentor")["choices"][0]["message"]["content"] == BY_MENTOR
    assert calls(server) == (1, 1)


def test_a_fixed_level_buys_its_insight_and_no_more(start: Start) -> None:
    server = start()
    found = server.ask("fixed:high")
    assert found["choices"][0]["message"]["reasoning_content"] == INSIGHT
    assert found["usage"]["tandem"]["mentor"]["insight"] == 23  # its first heading was put in its mouth
    assert server.ask("fixed:low")["usage"]["tandem"]["mentor"]["insight"] == 5
    assert calls(server) == (2, 2)


def test_budget_forcing_cuts_the_mentor(start: Start) -> None:
    first = mentor()
    first.answer = lambda request: "42}" if request.prefix else "one two three four five six seven"
    server = start(first)
    found = server.ask("budget-forcing:5")
    assert found["choices"][0]["message"]["content"].startswith("one two three four five")
    assert "seven" not in found["choices"][0]["message"]["content"]
    assert (first.calls[0].max_tokens, calls(server)) == (5, (2, 0))


@pytest.mark.parametrize(
    ("effort", "visited"),
    [
        ("none", ["none"]),
        ("minimal", ["none"]),
        ("low", ["none", "low"]),
        ("medium", ["none", "low", "medium"]),
        ("high", ["none", "low", "medium", "high"]),
        (None, ["none", "low", "medium", "high"]),
    ],
)
def test_reasoning_effort_caps_the_ladder(start: Start, climbing: str, effort: str | None, visited: list[str]) -> None:
    server = start(classifier=climbing)
    assert path(server, reasoning_effort=effort) == visited
    if effort not in ("minimal", None):
        assert path(server, model=f"tandem:{effort}") == visited


def test_the_lower_of_two_caps_holds(start: Start, climbing: str) -> None:
    server = start(classifier=climbing)
    assert path(server, model="tandem:low", reasoning_effort="medium") == ["none", "low"]
    assert path(server, model="tandem:medium", reasoning_effort="low") == ["none", "low"]


def test_no_effort_at_all_is_the_intern_alone(start: Start, climbing: str) -> None:
    server = start(classifier=climbing)
    server.ask(reasoning_effort="none")
    assert calls(server) == (0, 1)
    assert path(server, reasoning_effort="none", tandem={"effort": "low,high"}) == ["none"]  # no level is so low


def test_a_request_may_have_a_ladder_of_its_own(start: Start, climbing: str) -> None:
    server = start(classifier=climbing)
    assert path(server, tandem={"effort": "none,low=9,high=11"}) == ["none", "low", "high"]
    assert path(server, tandem={"effort": "none,low=9,high=11"}, reasoning_effort="low") == ["none", "low"]
    found = server.ask(tandem={"effort": "none,answer"})
    assert found["choices"][0]["message"]["content"] == BY_MENTOR


def test_pace_and_draft(start: Start, climbing: str) -> None:
    first = mentor()
    server = start(first, classifier=climbing)
    server.ask(tandem={"pace": "eager"})
    assert [call.max_tokens for call in first.calls] == [30]  # one stream up to the top
    server.ask(tandem={"pace": "thrifty"})
    assert [call.max_tokens for call in first.calls] == [30, 5, 7, 18]  # level by level
    assert server.ask()["usage"]["tandem"]["intern"]["probe"] == 3 * 4
    assert server.ask(tandem={"draft_tokens": 2})["usage"]["tandem"]["intern"]["probe"] == 3 * 2


def test_an_aim_is_another_classifier(start: Start, climbing: str, tmp_path: Path) -> None:
    aims = {"cost:0.6": classifier(tmp_path / "cheap", none=0), "accuracy": climbing}
    server = start(classifier=climbing, aims=aims)
    assert path(server, tandem={"aim": "cost:0.6"}) == ["none"]
    assert len(path(server, tandem={"aim": "accuracy"})) == 4
    error = server.post(chat(tandem={"aim": "regret:0.1"}))
    assert error.status_code == 400 and error.json()["error"]["param"] == "tandem.aim"
    assert "cost:0.6, accuracy" in error.json()["error"]["message"]


def test_a_budget_cuts_the_ladder_and_is_kept(start: Start, climbing: str, tmp_path: Path) -> None:
    (prices := tmp_path / "prices.yaml").write_text(PRICES)
    server = start(classifier=climbing, prices=prices, intern_max_tokens=50)
    whole = server.ask()["usage"]["tandem"]["usd"]
    visited = set()
    for budget in (0.01, 0.004, 0.003, 0.0025, 0.002, 0.0015, 0.001, 0.0005, 0.0002):
        response = server.post(chat(tandem={"budget_usd": budget}))
        if response.status_code == 400:
            assert response.json()["error"]["param"] == "tandem.budget_usd"
            assert f"US$ {budget:g} is not enough" in response.json()["error"]["message"]
            visited.add(-1)
            continue
        usage = response.json()["usage"]["tandem"]
        assert usage["usd"] <= budget
        visited.add(usage["mentor"]["insight"])
    assert whole > 0.0015 and visited >= {-1, 0, 5, 12, 23}


def test_a_budget_counts_all_choices(start: Start, low: str, tmp_path: Path) -> None:
    (prices := tmp_path / "prices.yaml").write_text(PRICES)
    server = start(prices=prices, intern_max_tokens=50)
    wish = {"budget_usd": 0.0005}
    assert server.ask("intern", tandem=wish)["usage"]["tandem"]["usd"] < 0.0005
    assert server.post(chat("intern", tandem=wish, n=3, temperature=0.7)).status_code == 400


def test_a_budget_needs_prices(start: Start) -> None:
    server = start()
    assert server.ask(tandem={"budget_usd": 0.01})["usage"]["tandem"]["usd"] is None  # own hardware bills nothing
    server.mentor.spec = server.mentor.spec.model_copy(update={"local": False})
    error = server.post(chat(tandem={"budget_usd": 0.01}))
    assert error.status_code == 400 and error.json()["error"]["param"] == "tandem.budget_usd"
    assert "fake-mentor" in error.json()["error"]["message"]


WISHES: list[dict[str, Any]] = [
    {"reasoning_effort": "none"},
    {"model": "tandem:low"},
    {"model": "intern"},
    {"tandem": {"effort": "none,answer"}},
    {"tandem": {"draft_tokens": 1, "pace": "eager"}},
    {"temperature": 1.5, "top_p": 0.3, "seed": 9, "stop": "then", "max_tokens": 2},
    {"tandem": {"aim": "cost:0.6"}},
    {"tandem": {"budget_usd": 0.02}},
    {"model": "fixed:low=3"},
    {"model": "nobody"},
]


@pytest.mark.slow
def test_nothing_of_a_request_stays(start: Start, climbing: str, tmp_path: Path) -> None:
    (prices := tmp_path / "prices.yaml").write_text(PRICES)
    aims = {"cost:0.6": classifier(tmp_path / "cheap", none=0)}
    server = start(classifier=climbing, aims=aims, prices=prices)

    def plain() -> dict[str, Any]:
        found = server.ask()
        del found["usage"]["tandem"]["seconds"]
        return {"choices": found["choices"], "usage": found["usage"]}

    before = plain()
    with server.http() as client:
        about = client.get("/v1/tandem").json()
        for wish in WISHES:  # one after the other,
            server.post(chat(**wish))
            assert plain() == before, wish
        with ThreadPoolExecutor(8) as threads:  # and side by side
            odd = [threads.submit(server.post, chat(**wish)) for wish in WISHES * 2]
            usual = [threads.submit(plain) for _ in range(20)]
            assert all(one.result() == before for one in usual)
            assert {one.result().status_code for one in odd} == {200, 404}
        assert client.get("/v1/tandem").json() == about


@pytest.mark.parametrize("pace", ["eager", "thrifty", "auto"])
def test_a_greeting_buys_nothing_of_the_mentor(start: Start, tmp_path: Path, pace: str) -> None:
    server = start(classifier=classifier(tmp_path / "none", none=0), pace=pace)
    usage = server.ask(content="Hello")["usage"]["tandem"]["mentor"]
    assert calls(server)[0] == 0 and usage["completion"] == usage["prompt"] == 0


def test_a_ladder_is_the_classifiers_own_without_an_option(start: Start, climbing: str) -> None:
    assert path(start(classifier=climbing, effort=None)) == [level.partition("=")[0] for level in LADDER.split(",")]


def test_the_kind_of_question_is_guessed_or_said(start: Start) -> None:
    server = start()
    assert isinstance(server.intern, FakeModel)
    told = {"guessed": {}, "code": {"task": "code"}, "general": {"task": "general"}}
    asked = {}
    for name, options in told.items():
        assert server.post(chat("intern", tandem=options)).status_code == 200
        asked[name] = server.intern.calls[-1].messages[-1].content
    assert "\\boxed" in asked["guessed"] and "```python" in asked["code"] and asked["general"] == "What is 17*23?"
