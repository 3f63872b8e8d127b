"""Which of vLLM's parsers reads a model's calls of functions: as its chat template writes them, else by its name.

A model without one is given functions in words, as any endpoint that takes none.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

_BY_TEMPLATE = (  # what a template says, and does not say
    ("<tool_call>", "<function=", "hermes"),
    ("<|python_tag|>", "", "llama3_json"),
    ("[TOOL_CALLS]", "", "mistral"),
)
_BY_NAME = (
    (r"(?:^|/)(?:qwen2\.5-|qwen3-(?!coder)|hermes-[23])", "hermes"),
    (r"(?:^|/)(?:meta-)?llama-3\.[123]-", "llama3_json"),
    (r"(?:^|/)(?:mistral|ministral|mixtral)-", "mistral"),
)


def tool_parser(model: str, path: Path | None) -> str | None:
    """Return a parser's name for a folder or file of weights, or for a hub id; None where none is known to fit."""
    if path is None:
        return next((parser for name, parser in _BY_NAME if re.search(name, model, re.I)), None)
    template = _template(path if path.is_dir() else path.parent)
    return next(
        (parser for has, lacks, parser in _BY_TEMPLATE if has in template and not (lacks and lacks in template)), None
    )


def _template(folder: Path) -> str:
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        pass
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return ""
    return found if isinstance(found, str) else json.dumps(found)
