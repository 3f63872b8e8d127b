"""The key file and what is kept beside it: hashes only, compared all alike, and spending that outlives a restart."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml

from tandem.errors import UsageError
from tandem.server import keys as keys_module
from tandem.server.errors import ApiError
from tandem.server.keys import Account, KeyEntry, KeyRing, add_key, read_keys


def test_only_hashes_are_kept(file: Path) -> None:
    key = add_key(file, "alice", 60, 5.0)
    other = add_key(file, "bob", None, None)
    assert key != other and len(key) > 40
    assert yaml.safe_load(file.read_text()) == {
        "keys": [
            {
                "name": "alice",
                "sha256": hashlib.sha256(key.encode()).hexdigest(),
                "requests_per_minute": 60,
                "usd": 5.0,
            },
            {"name": "bob", "sha256": hashlib.sha256(other.encode()).hexdigest()},
        ]
    }
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in file.parent.iterdir()] == ["keys.yaml"]  # nothing half written is left


@pytest.mark.parametrize("place", [0, 3, None])
def test_a_key_is_compared_with_all_of_them(file: Path, monkeypatch: pytest.MonkeyPatch, place: int | None) -> None:
    given = [add_key(file, name, None, None) for name in ("alice", "bob", "carol", "dave")]
    keys = KeyRing(file)
    compared: list[str] = []
    compare = keys_module.hmac.compare_digest

    def noted(one: str, other: str) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(keys_module.hmac, "compare_digest", noted)
    if place is None:
        with pytest.raises(ApiError):
            keys.account("Bearer tdm-wrong")
    else:
        assert keys.account(f"Bearer {given[place]}") is keys.accounts[place]
    assert compared == [account.entry.sha256 for account in keys.accounts]


def test_a_rate_is_of_any_minute() -> None:
    now = 0.0
    account = Account(KeyEntry(name="alice", sha256="0" * 64, requests_per_minute=2), clock=lambda: now)
    account.enter()
    now = 30.0
    account.enter()
    now = 59.0
    with pytest.raises(ApiError) as caught:
        account.enter()
    assert caught.value.status == 429 and caught.value.headers["Retry-After"] == "1"
    now = 60.0
    account.enter()
    with pytest.raises(ApiError) as caught:
        account.enter()
    assert caught.value.headers["Retry-After"] == "30"  # refused requests do not count


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: []", "has no keys; add one with `tandem keys add"),
        ("", "has no keys"),
        ("keys: [{name: a, sha256: short}]", "keys.0.sha256"),
        ("keys: [{name: a}]", "keys.0.sha256: Field required"),
        ("keys: [{name: a, sha256: HASH0}, {name: a, sha256: HASH1}]", "one name twice"),
        ("keys: [{name: a, sha256: HASH0}, {name: b, sha256: HASH0}]", "one sha256 twice"),
        ("keys: [{name: a, sha256: HASH0, usd: -1}]", "keys.0.usd"),
        ("keys: [{name: a, sha256: HASH0, usd: .nan}]", "keys.0.usd"),
        ("keys: [{name: a, sha256: HASH0, rpm: 3}]", "keys.0.rpm"),
        ("keys: {", "not written by `tandem keys add`"),
        ("[alice]", "cannot be used"),
        ("keys: " + "[" * 50_000, "not written by `tandem keys add`"),
        ("a: &a [x, x]\nkeys: [*a, *a]", "not written by `tandem keys add`"),
        ("\xff", "not written by `tandem keys add`"),
    ],
)
def test_a_damaged_file_is_told(file: Path, text: str, said: str) -> None:
    text = re.sub(r"HASH(\d)", lambda match: f"'{match[1] * 64}'", text)
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        KeyRing(file)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_put_into_the_file_by_mistake_is_not_shown(file: Path) -> None:
    file.write_text("keys: [{name: alice, sha256: tdm-mysecretkey}]")
    with pytest.raises(UsageError) as caught:
        read_keys(file)
    assert "mysecret" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"alice": "much"}', '{"alice": NaN}', '{"alice": -3}', '{"alice": null}'])
def test_damaged_spending_is_told_and_gives_nobody_a_new_budget(file: Path, text: str) -> None:
    add_key(file, "alice", None, 1.0)
    (spent := file.parent / "keys.yaml.spent.json").write_text(text)
    with pytest.raises(UsageError, match="repair or remove it"):
        KeyRing(file)
    assert spent.read_text() == text


def test_a_full_disk_stops_nobody(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(file, "alice", None, 1.0)
    keys = KeyRing(file)
    keys.accounts[0].settle(0.0, 0.25)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    keys.save()
    assert "No space left on device" in caplog.text
    monkeypatch.undo()
    keys.save()
    assert KeyRing(file).accounts[0].spent == 0.25


def test_who_is_away_from_the_file_for_a_while_has_no_new_budget(file: Path) -> None:
    add_key(file, "alice", None, 1.0)
    add_key(file, "bob", None, 1.0)
    keys = KeyRing(file)
    keys.accounts[0].settle(0.0, 0.75)
    keys.save()
    whole = file.read_text()
    file.write_text(yaml.safe_dump({"keys": yaml.safe_load(whole)["keys"][1:]}))
    KeyRing(file).save()
    file.write_text(whole)
    assert KeyRing(file).accounts[0].spent == 0.75
