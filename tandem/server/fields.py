"""The fields of a request that are not honoured: refused by name, or ignored and named in a header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

IGNORED_HEADER = "x-tandem-ignored"
# What no strategy can honour, with the values that ask for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "moderation": (),
    "web_search_options": (),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    # vLLM's: the same is asked for with `response_format`.
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
}
# What changes no answer here, with the values that ask for nothing.
IGNORED: dict[str, tuple[Any, ...]] = {
    "metadata": ({},),
    "prediction": (),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "safety_identifier": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "user": (),
    "verbosity": ("medium",),
}
_MOST_NAMES = 20
_PLAIN = re.compile(r"[\w.-]{1,64}", re.ASCII)


def refused(given: Mapping[str, Any]) -> str | None:
    """Return the name of a field that asks for something unsupported; None where there is none."""
    for name, nothing in REFUSED.items():
        value = given.get(name)
        if value is not None and value not in nothing:
            return name
    return None


def ignored(given: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that ask for something which has no effect, unknown ones among them."""
    asking = (name for name, value in given.items() if value is not None and value not in IGNORED.get(name, ()))
    return [name for name in asking if name not in REFUSED]


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Return the header that names ignored fields; of a stranger's names those that fit into one, and not too many."""
    plain = [name for name in names if _PLAIN.fullmatch(name)]
    return {IGNORED_HEADER: ", ".join(plain[:_MOST_NAMES])} if plain else {}
