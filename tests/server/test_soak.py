"""Thousands of mixed requests to a real server, over endpoints that fail and clients that go away: all of them end, the
figures agree with what both sides saw, and nothing is left behind.

TANDEM_SOAK_REQUESTS is how many; the default takes about a minute on two slow cores.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from pathlib import Path

import pytest
import yaml
from serve_process import ServeProcess, serve_process
from serving import chat, classifier
from soak_pair import Bill, Pair, soaked_pair
from soak_requests import INTERN, Told, mix
from wire import Wire

from tandem.paths import shipped
from tandem.server.keys import add_key

REQUESTS = int(os.environ.get("TANDEM_SOAK_REQUESTS", "1000"))
AT_ONCE = 40  # more than are solved at once, fewer than may be inside
PRICES = {"mentor": (3.0, 15.0), "intern": (0.1, 0.4)}  # US$ per million tokens, read and written
SETTLED = {"requests_running": [0], "requests_waiting": [0], "replica_requests": [0, 0], "replica_up": [1, 1]}
Turn = Callable[[], Awaitable[None]]
Metrics = Mapping[tuple[str, tuple[str, ...]], float]


def options(folder: Path, pair: Pair) -> list[str]:
    """Return the options of a server that answers at `low`, and whose drafts are whole answers: no call is cut."""
    prices = {f"fake-{role}": {"input": read, "output": written} for role, (read, written) in PRICES.items()}
    (folder / "prices.yaml").write_text(yaml.safe_dump(prices))
    own = Path(classifier(folder / "at-low", none=2, low=0))
    (own / "card.json").write_text(json.dumps(json.loads((own / "card.json").read_text()) | {"draft_tokens": 16}))
    numbers = next(shipped("classifiers").iterdir()) / "linear.json"  # with them, nothing large is imported
    (own / "linear.json").write_bytes(numbers.read_bytes())
    return [
        *("--mentor", "fake-mentor", "--mentor-endpoint", pair.mentor.url, "--intern", "fake-intern"),
        *("--intern-endpoint", ",".join(intern.url for intern in pair.interns), "--classifier", str(own)),
        *("--keys", "keys.yaml", "--prices", "prices.yaml", "--pace", "thrifty"),
        *("--concurrency", "32", "--queue", "64"),
    ]


async def ask_all(wires: dict[str, Wire], turns: dict[int, Turn]) -> Told:
    """Send the mix, and do what `turns` says when so many requests were sent."""
    requests, told, begun = mix(REQUESTS), Told(), list[asyncio.Future[None]]()

    async def work() -> None:
        for asked in requests:
            if asked.number in turns:
                begun.append(asyncio.ensure_future(turns[asked.number]()))
            wire = wires.get(asked.kind, wires["rich"])
            answer = await wire.post(asked.path, asked.body, leave=asked.leave, seen=b"word1")
            told.note(asked, answer)

    async with asyncio.timeout(1500 + REQUESTS / 10):
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        await asyncio.gather(*begun)
    for wire in wires.values():
        wire.close()
    return told


async def settled(server: ServeProcess, key: str, most_files: float = float("inf")) -> int:
    """Wait until nothing runs, every replica is up again and idle connections are closed; return the requests it took.

    A replica is looked at again, and an idle connection closed, when somebody asks.
    """
    wire = Wire(server.url, key)
    async with asyncio.timeout(300):
        for asked in count(step=2):
            metrics = server.metrics()
            state = {
                what: sorted(v for (name, _), v in metrics.items() if name == f"tandem_{what}") for what in SETTLED
            }
            if state == SETTLED and server.files <= most_files:
                return asked
            for model in ("intern", "mentor"):
                answer = await wire.post("/v1/chat/completions", chat(model, f"settled after {asked}?"))
                assert answer.status == 200, answer
            wire.close()
            await asyncio.sleep(0.5)
    raise AssertionError


def sums(metrics: Metrics, name: str, place: int) -> dict[str, float]:
    """Return a counter's values by one of its labels."""
    found: defaultdict[str, float] = defaultdict(float)
    for (sample, labels), value in metrics.items():
        if sample == f"tandem_{name}_total":
            found[labels[place]] += value
    return found


def statuses_agree(told: Told, counted: Mapping[str, float], settling: int) -> None:
    """Compare how requests ended for their clients with what the server counted; the cut streams were 5xx."""
    server = Counter({status: int(number) for status, number in counted.items()})
    server["200"] -= settling
    failed = Counter({status: server.pop(status, 0) for status in ("502", "503")})
    clients = Counter(told.ends)
    assert failed.total() == sum(clients.pop(end, 0) for end in ("502", "503", "in a stream")) > 0
    assert server == clients
    assert set(clients) == {"200", "400", "401", "404", "429", "499"}


def tokens_agree(told: Told, bills: Mapping[str, Mapping[int | None, Bill]], metrics: Metrics) -> None:
    """Compare what the server says of tokens and US$, to clients and to Prometheus, with what the endpoints billed."""
    exact = 0
    for number, usage in told.usage.items():
        found = {role: bills[role].get(number, Bill()) for role in PRICES}
        if number not in told.eager and all(bill.exact for bill in found.values()):
            exact += 1
            for role, bill in found.items():
                said = usage["tandem"][role]
                assert (said["prompt"], said["completion"]) == (bill.prompt, bill.completion), (number, role, usage)
            due = sum(usd(role, bill.prompt, bill.completion) for role, bill in found.items())
            assert usage["tandem"]["usd"] == pytest.approx(due)
    assert exact > 0.85 * len(told.usage)
    written, read, paid = sums(metrics, "tokens", 1), sums(metrics, "prompt_tokens", 0), sums(metrics, "usd", 0)
    for role in PRICES:
        answered = sum(usage["tandem"][role]["completion"] for usage in told.usage.values())
        lost = sum(bill.open for bill in bills[role].values()) * len(INTERN)
        assert answered <= written[role] <= sum(bill.completion for bill in bills[role].values()) + lost
        assert paid[role] == pytest.approx(usd(role, read[role], written[role]))


def usd(role: str, read: float, written: float) -> float:
    """Return what tokens cost."""
    return (PRICES[role][0] * read + PRICES[role][1] * written) / 1e6


@pytest.mark.slow
@pytest.mark.timeout(2400 + REQUESTS / 10)
async def test_a_long_time_under_fire(tmp_path: Path) -> None:
    rich, poor = (add_key(tmp_path / "keys.yaml", name, None, usd) for name, usd in (("rich", 1e6), ("poor", 1e-9)))
    async with soaked_pair(tmp_path) as pair, serve_process(tmp_path, *options(tmp_path, pair)) as server:
        settling = await settled(server, rich)
        files, memory = server.files, 0.0

        async def busy() -> None:
            pair.mentor.allows, refused = 0, len(pair.mentor.seen) + 20
            await pair.mentor.until(lambda: len(pair.mentor.seen) >= refused, 60)
            pair.mentor.allows = None

        async def look() -> None:
            nonlocal memory
            memory = server.memory()

        fall, rise = pair.interns[0].kill, pair.interns[0].start
        turns = {0.2: look, 0.25: fall, 0.35: rise, 0.5: busy, 0.65: fall, 0.75: rise}
        wires = {"rich": Wire(server.url, rich), "poor": Wire(server.url, poor), "no key": Wire(server.url)}
        told = await ask_all(wires, {int(share * REQUESTS): turn for share, turn in turns.items()})
        settling += await settled(server, rich, files + 8)
        grown, metrics, log = server.memory() - memory, server.metrics(), server.log.read_text()
    assert not told.wrong, told.wrong[:5]
    assert not pair.mentor.in_flight and not pair.interns[1].open
    bills = pair.bills()
    statuses_agree(told, sums(metrics, "requests", 1), settling)
    tokens_agree(told, bills, metrics)
    cut = sum(bill.cut for role in PRICES for bill in bills[role].values())
    assert cut > REQUESTS / 50  # who went away stopped the models
    spent = json.loads((tmp_path / "keys.yaml.spent.json").read_text())
    assert spent["rich"] >= sum(sums(metrics, "usd", 0).values()) - 1e-6 and not spent["poor"]
    assert grown < 5, f"{grown:.1f} MB more"  # what is kept of a request is forgotten
    assert "Traceback" not in log, log
