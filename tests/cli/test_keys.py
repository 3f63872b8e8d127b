"""`tandem keys`: a key is printed once, its hash is kept, and the list says what is left."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from commands import Cli


def test_a_key_is_printed_once_and_its_hash_is_kept(cli: Cli) -> None:
    added = cli("keys", "add", "keys.yaml", "--name", "alice", "--requests-per-minute", "60", "--usd", "5")
    key = added.out.strip()
    assert added.code == 0 and added.out == f"{key}\n" and key.startswith("tdm-")
    assert added.err == "the key of alice; keys.yaml has only its hash, so save the key now\n"
    text = Path("keys.yaml").read_text()
    assert key not in text
    (entry,) = yaml.safe_load(text)["keys"]
    assert entry == {
        "name": "alice",
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "requests_per_minute": 60,
        "usd": 5.0,
    }


def test_the_list_says_limits_and_what_is_spent(cli: Cli) -> None:
    cli("keys", "add", "keys.yaml", "--name", "alice", "--requests-per-minute", "60", "--usd", "5")
    cli("keys", "add", "keys.yaml", "--name", "bob")
    Path("keys.yaml.spent.json").write_text('{"alice": 1.25}')
    listed = cli("keys", "list", "keys.yaml")
    assert listed.out == (
        "alice: 60 requests a minute, US$ 1.2500 of 5 spent\nbob: any number of requests, no budget\n"
    )
    others = {"concurrency": None, "models": None}
    assert json.loads(cli("keys", "list", "keys.yaml", "--json").out) == [
        {"spent_usd": 1.25, "name": "alice", "requests_per_minute": 60, "usd": 5.0, **others},
        {"spent_usd": 0.0, "name": "bob", "requests_per_minute": None, "usd": None, **others},
    ]


def test_a_key_with_models_and_requests_at_once(cli: Cli) -> None:
    cli("keys", "add", "keys.yaml", "--name", "alice", "--concurrency", "4", "--model", "tandem", "--model", "intern")
    (entry,) = yaml.safe_load(Path("keys.yaml").read_text())["keys"]
    assert (entry["concurrency"], entry["models"]) == (4, ["tandem", "intern"])
    listed = cli("keys", "list", "keys.yaml")
    assert listed.out == "alice: any number of requests, 4 at once, only tandem, intern, no budget\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys", "add", "keys.yaml"], "Missing option '--name'"),
        (["keys", "add", "keys.yaml", "--name", ""], "name"),
        (["keys", "add", "keys.yaml", "--name", "x" * 101], "name"),
        (["keys", "add", "keys.yaml", "--name", "alice"], "keys.yaml has a key named alice already"),
        (["keys", "add", "keys.yaml", "--name", "bob", "--usd", "-1"], "'--usd': -1.0 is not in the range x>=0"),
        (["keys", "add", "keys.yaml", "--name", "bob", "--usd", "inf"], "'--usd': inf is not a finite number"),
        (["keys", "add", "keys.yaml", "--name", "bob", "--requests-per-minute", "0"], "'--requests-per-minute': 0"),
        (["keys", "add", "no/such/keys.yaml", "--name", "bob"], "no/such/keys.yaml cannot be written: No such file"),
        (["keys", "add", ".", "--name", "bob"], "is a directory"),
        (["keys", "add", "damaged.yaml", "--name", "bob"], "damaged.yaml cannot be used"),
        (["keys", "list", "none.yaml"], "there is no key file none.yaml"),
        (["keys", "list", "damaged.yaml"], "damaged.yaml cannot be used"),
        (["keys", "show"], "No such command 'show'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_usage_is_one_line_and_exit_code_2(cli: Cli, arguments: list[str], said: str) -> None:
    cli("keys", "add", "keys.yaml", "--name", "alice")
    before = Path("keys.yaml").read_text()
    Path("damaged.yaml").write_text("keys: [alice]")
    outcome = cli(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err and outcome.err.startswith("tandem: ") and outcome.err.count("\n") == 1
    assert Path("keys.yaml").read_text() == before
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == ["damaged.yaml", "keys.yaml"]
