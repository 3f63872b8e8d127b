"""API keys: stored as hashes, compared in constant time, each with its own rate limit and budget.

A key file is YAML, made by ``tandem keys add``::

    keys:
      - {name: alice, sha256: 5e88..., requests_per_minute: 60, usd: 5.0, concurrency: 4, models: [tandem, intern]}

Spending is stored beside it (``<file>.spent.json``), so that a restart does not reset a budget, and so are the bounds
of the requests in flight (``<file>.open.jsonl``), which a killed server leaves there and the next one charges.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tandem.errors import TandemError, UsageError
from tandem.server.errors import ApiError
from tandem.server.journal import SpendingJournal
from tandem.storage.bounded_yaml import load_yaml
from tandem.storage.files import replacing, write_whole

_log = logging.getLogger(__name__)
_MINUTE = 60.0
_LOOK = 1.0  # seconds between looks at the key file


class KeyEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    requests_per_minute: int | None = Field(None, ge=1)
    usd: float | None = Field(None, ge=0, allow_inf_nan=False)
    concurrency: int | None = Field(None, ge=1)  # requests at once
    models: tuple[str, ...] | None = Field(None, min_length=1)  # with their forms: tandem allows tandem:low

    def allows(self, model: str) -> bool:
        """Return whether the key may ask for a model by this name."""
        return self.models is None or any(f"{model}:".startswith(f"{name}:") for name in self.models)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry] = []


class Account:
    def __init__(self, entry: KeyEntry, clock: Callable[[], float] = time.monotonic) -> None:
        self.entry = entry
        self.spent = 0.0  # US$, worst case
        self._reserved = 0.0
        self._running = 0
        self._clock = clock
        self._recent: deque[float] = deque()

    def enter(self, choices: int = 1) -> None:
        """Count a request, with each of its choices as one. Raises ApiError 429 if the rate limit is exceeded."""
        limit = self.entry.requests_per_minute
        if limit is None:
            return
        now = self._clock()
        while self._recent and now - self._recent[0] >= _MINUTE:
            self._recent.popleft()
        if len(self._recent) + choices > limit:
            if choices > limit:
                raise ApiError(
                    429, f"this key is limited to {limit} choices per minute, and this request has {choices}"
                )
            wait = _MINUTE - (now - self._recent[len(self._recent) + choices - limit - 1])
            raise ApiError(
                429,
                f"this key is limited to {limit} requests per minute; retry in {wait:.0f} s",
                code="rate_limit_exceeded",
                retry_after=wait,
            )
        self._recent.extend([now] * choices)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold one of the requests that the key may have at once. Raises ApiError 429 if it has them."""
        limit = self.entry.concurrency
        if limit is not None and self._running >= limit:
            raise ApiError(
                429,
                f"this key is limited to {limit} requests at once; send the next one when one is over",
                code="rate_limit_exceeded",
                retry_after=1,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def check_model(self, model: str) -> None:
        """Raise ApiError 404 for a model that the key may not ask for, as OpenAI does."""
        if not self.entry.allows(model):
            known = ", ".join(self.entry.models or ())
            raise ApiError(404, f"this key may ask for {known} only", param="model", code="model_not_found")

    def reserve(self, usd: float) -> None:
        """Reserve a request's maximal cost. Raises ApiError 429 if the budget does not cover it."""
        limit = self.entry.usd
        if limit is not None and self.spent + self._reserved + usd > limit + 1e-12:
            raise ApiError(
                429,
                f"this key's budget of US$ {limit:g} is spent: US$ {self.spent:.4f} so far, US$ {self._reserved:.4f} "
                f"in flight, and this request may cost US$ {usd:.4f}",
                code="insufficient_quota",
            )
        self._reserved += usd

    def settle(self, reserved: float, usd: float) -> None:
        self._reserved = max(0.0, self._reserved - reserved)
        self.spent += usd


class KeyRing:
    """The accounts of a server; without a key file all callers share one account without limits."""

    def __init__(self, path: Path | None = None) -> None:
        """Read a key file. Raises UsageError for one that is missing, damaged or empty."""
        self._path = path
        self.accounts = [Account(entry) for entry in read_keys(path)] if path else []
        if path and not self.accounts:
            raise UsageError(f"{path} has no keys; add one with `tandem keys add {path} --name NAME`")
        self._open = Account(KeyEntry(name="anyone", sha256="0" * 64))
        self._away: dict[str, float] = {}  # spending of names that are no longer in the key file
        self._removed: dict[str, Account] = {}  # since the start, some with requests in flight
        self._journal: SpendingJournal | None = None
        self._seen = _stamp(path) if path else None
        self._load_spent()

    @property
    def needed(self) -> bool:
        return self._path is not None

    def account(self, authorization: str | None) -> Account:
        """Return the account of an Authorization header. Raises ApiError 401."""
        if self._path is None:
            return self._open
        scheme, _, given = (authorization or "").partition(" ")
        digest = digest_of(given.strip() if scheme.lower() == "bearer" else "")
        found: Account | None = None
        for account in self.accounts:  # all of them, so that timing reveals nothing
            if hmac.compare_digest(account.entry.sha256, digest):
                found = account
        if found is None:
            reason = "this API key is unknown" if given else "an API key is required: Authorization: Bearer KEY"
            raise ApiError(401, reason, code="invalid_api_key")
        return found

    def recover(self) -> None:
        """Charge what a killed server left in flight, at its bound, and begin to note what is in flight here.

        Raises TandemError for a damaged file.
        """
        if self._path is None or self._journal is not None:
            return
        try:
            self._journal = journal = SpendingJournal(self._path.with_name(self._path.name + ".open.jsonl"))
        except UsageError as error:
            _log.warning("%s; what is in flight if this server is killed is not charged", error)
            return
        for name, usd in journal.spent.items():
            self._set_spent(name, usd)
        for number, (name, usd) in list(journal.open.items()):
            _log.warning("charging %s US$ %.6f for a request that was in flight when the server was killed", name, usd)
            self._set_spent(name, self._spent(name) + usd)
            journal.end(number, self._spent(name))
        if self.save():
            journal.restart()

    def reserve(self, account: Account, usd: float) -> int | None:
        """Reserve a request's maximal cost as `Account.reserve` does, noted on disk; return what `settle` wants."""
        account.reserve(usd)
        return self._journal.begin(account.entry.name, usd) if self._journal and usd else None

    def settle(self, account: Account, number: int | None, reserved: float, usd: float) -> None:
        """Charge what a request has cost, in place of what was reserved."""
        account.settle(reserved, usd)
        if self._journal and number is not None:
            self._journal.end(number, account.spent)
        if usd and self.save() and self._journal and self._journal.is_long:
            self._journal.restart()

    def close(self) -> None:
        """Save the spending at the end of a server."""
        saved = self.save()
        if self._journal:
            if saved and not self._journal.open:
                self._journal.restart()
            self._journal.close()
            self._journal = None

    async def watch(self) -> None:
        """Read the key file again whenever it changes; one that cannot be used is logged, and the keys stay."""
        while self._path is not None:
            await asyncio.sleep(_LOOK)
            if (seen := _stamp(self._path)) == self._seen:
                continue
            self._seen = seen
            try:
                self._take(await asyncio.to_thread(read_keys, self._path))
            except UsageError as error:
                _log.warning("the keys stay as they were: %s", error)

    def _take(self, entries: list[KeyEntry]) -> None:
        """Take the entries of a changed file: who stays keeps account, rate and spending."""
        known = self._removed | {account.entry.name: account for account in self.accounts}
        self.accounts = []
        for entry in entries:
            account = known.pop(entry.name, None) or Account(entry)
            account.entry = entry
            account.spent += self._away.pop(entry.name, 0.0)
            self.accounts.append(account)
        self._removed = known
        _log.warning("the key file has changed: %d keys", len(entries))

    def save(self) -> bool:
        """Save each key's spending; a write error is logged, and requests continue. Return whether it is saved."""
        if self._path is None:
            return True
        known = [*self._removed.values(), *self.accounts]
        spent = self._away | {account.entry.name: round(account.spent, 8) for account in known}
        try:  # not durable: between requests there is no wait for the disk
            write_whole(_spent_file(self._path), json.dumps(spent) + "\n", durable=False)
        except TandemError as error:
            _log.warning("%s", error)
            return False
        return True

    def _spent(self, name: str) -> float:
        found = next((account.spent for account in self.accounts if account.entry.name == name), None)
        return self._away.get(name, 0.0) if found is None else found

    def _set_spent(self, name: str, usd: float) -> None:
        for account in self.accounts:
            if account.entry.name == name:
                account.spent = usd
                return
        self._away[name] = usd

    def _load_spent(self) -> None:
        if self._path is None or not _spent_file(self._path).is_file():
            return
        try:
            found = json.loads(_spent_file(self._path).read_text())
            spent = {str(name): float(usd) for name, usd in found.items()}
            if wrong := [name for name, usd in spent.items() if not 0 <= usd < math.inf]:
                raise ValueError(f"{wrong[0]} has spent {spent[wrong[0]]}")
            for account in self.accounts:
                account.spent = spent.pop(account.entry.name, 0.0)
            self._away = spent
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{_spent_file(self._path)} is damaged ({error}); repair or remove it") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file's content."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _spent_file(path: Path) -> Path:
    return path.with_name(path.name + ".spent.json")


def digest_of(key: str) -> str:
    """Return the sha256 of a key; keys are long and random, so that an unsalted hash is safe."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> list[KeyEntry]:
    """Return the entries of a key file. Raises UsageError if it is missing, damaged or has a duplicate."""
    try:
        found = _File.model_validate(load_yaml(path, "the key file") or {})
    except FileNotFoundError:
        raise UsageError(f"there is no key file {path}; make one with `tandem keys add {path} --name NAME`") from None
    except (OSError, UsageError, ValidationError) as error:
        reason = "it was not written by `tandem keys add`"
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False)[0]  # a hash, or a key put there by mistake, must not be shown
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(f"the key file {path} cannot be used: {reason}") from None
    for what in ("name", "sha256"):
        given = [getattr(entry, what) for entry in found.keys]
        if len(set(given)) < len(given):
            raise UsageError(f"the key file {path} has one {what} twice")
    return found.keys


def add_key(
    path: Path,
    name: str,
    requests_per_minute: int | None,
    usd: float | None,
    *,
    concurrency: int | None = None,
    models: tuple[str, ...] = (),
) -> str:
    """Add a new key to a file, created if missing; return the key, which is stored nowhere else.

    Raises UsageError for a name that exists or is invalid, a bad limit, or a damaged file.
    """
    entries = read_keys(path) if path.exists() else []
    if name in {entry.name for entry in entries}:
        raise UsageError(f"{path} has a key named {name} already")
    key = f"tdm-{secrets.token_urlsafe(32)}"
    try:
        entry = KeyEntry(
            name=name,
            sha256=digest_of(key),
            requests_per_minute=requests_per_minute,
            usd=usd,
            concurrency=concurrency,
            models=models or None,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]}: {first['msg']}") from None
    entries.append(entry)
    text = yaml.safe_dump(
        {"keys": [entry.model_dump(mode="json", exclude_none=True) for entry in entries]}, sort_keys=False
    )
    try:
        with replacing(path, private=True) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return key
