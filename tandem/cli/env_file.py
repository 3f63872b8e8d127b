"""`.env` in the current folder, which may be a stranger's: it gives keys and folders, and nothing else.

An endpoint, a strategy or a permission from there would act without anybody having asked for it, and a proxy or the
address of a service would see the keys. Values are taken as they stand: `${OPENAI_API_KEY}` in one would send that key
to another service.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tandem.errors import UsageError
from tandem.storage.files import read_within

_log = logging.getLogger(__name__)
_MOST_BYTES = 1_000_000
_NAMED = 5  # ignored names in the warning
FOLDERS = ("TANDEM_HOME", "TANDEM_DATA_DIR", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_OURS = ("TANDEM_", "OPENAI_", "ANTHROPIC_", "HF_", "VLLM_", "CUDA_", "RAY_", "OTEL_", "SSL_", "REQUESTS_", "LD_")
_ANYBODY = ("_PROXY", "_BASE_URL", "_ENDPOINT")


def read_env_file(path: Path = Path(".env")) -> None:
    """Set the keys and folders that the file gives and the environment does not have.

    What else it says to us is ignored with one warning that has the names and no value. Raises UsageError for a file
    that is no text or larger than 1 MB.
    """
    if not path.is_file():
        return
    import io

    from dotenv import dotenv_values

    raw = read_within(path, _MOST_BYTES)
    if raw is None:
        raise UsageError(f"{path}: larger than {_MOST_BYTES // 1_000_000} MB; it gives keys and folders only")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    ignored = []
    for name, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items():
        if not value or "\0" in value or name in os.environ:
            continue
        if name in FOLDERS:
            os.environ[name] = value.replace("${HOME}", str(Path.home()))
        elif name.endswith("_API_KEY") or name in _TOKENS:
            os.environ[name] = value
        elif name.upper().startswith(_OURS) or name.upper().endswith(_ANYBODY):
            ignored.append(name)
    if ignored:
        names = ", ".join(ignored[:_NAMED]) + (f" and {more} more" if (more := len(ignored) - _NAMED) > 0 else "")
        _log.warning(
            "%s: ignored %s; it gives keys (such as OPENAI_API_KEY) and folders (such as TANDEM_HOME) only: "
            "export the rest, or use --config",
            path,
            names,
        )
