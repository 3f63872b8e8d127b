"""The model hub's client: progress by what has arrived on disk, and errors in one line."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from tandem.errors import MissingPackageError, TandemError

Progress = Callable[[str, int, int], None]  # (what is going on, bytes done, bytes in all)

_EVERY = 0.5  # seconds


def size_of(folder: Path) -> int:
    """Return the bytes of all files below `folder`; files that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += 0 if path.is_dir() else path.lstat().st_size
    return total


@contextlib.contextmanager
def watched(say: Callable[[], None]) -> Iterator[None]:
    """Call `say` every so often, in a thread, while the body runs."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_EVERY):
            say()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


@contextlib.contextmanager
def hub(repository: str, folder: Path, total: int, progress: Progress) -> Iterator[ModuleType]:
    """Lend the hub's client; while it fetches into `folder`, `progress` gets how many of `total` bytes are there.

    Raises MissingPackageError without the `hub` extra, and TandemError for everything that goes wrong.
    """
    try:
        import huggingface_hub
        from huggingface_hub import utils
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise MissingPackageError("fetching weights from the model hub", "hub") from None
    bars = not utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        with watched(lambda: progress("fetching from the model hub", min(size_of(folder), total), total)):
            yield huggingface_hub
    except TandemError:
        raise
    except GatedRepoError:
        raise _failed(repository, "it is gated: accept its terms on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise _failed(repository, "there is no such repository, or it needs HF_TOKEN") from None
    except LocalEntryNotFoundError:
        raise _failed(repository, "the hub cannot be reached (no network, or HF_HUB_OFFLINE is set)") from None
    except HfHubHTTPError as error:
        raise _failed(repository, f"the hub answered {error.response.status_code}") from error
    except Exception as error:  # no network, offline mode, a full disk: each client version has its own classes
        line = (str(error).strip().splitlines() or [""])[0]
        raise _failed(repository, f"{type(error).__name__}: {line}") from error
    finally:
        if bars:
            utils.enable_progress_bars()


def _failed(repository: str, reason: str) -> TandemError:
    return TandemError(f"{repository} cannot be fetched from the model hub: {reason}")
