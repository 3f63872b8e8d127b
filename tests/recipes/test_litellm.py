"""LiteLLM, whose retries and fallbacks go by the class of an exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipes.conftest import Recipes

pytestmark = [pytest.mark.recipes, pytest.mark.slow]
EXPECTED = {
    "a wrong key": "litellm.AuthenticationError 401",
    "no such model": "litellm.NotFoundError 404",
    "a wrong field": "litellm.BadRequestError 400",
    "a long prompt": "litellm.ContextWindowExceededError 400",
    "too many": "litellm.RateLimitError 429",
    "no money": "litellm.RateLimitError 429",
    "down": "litellm.ServiceUnavailableError 503",
    "broken": "litellm.BadGatewayError 502",
    "a bug": "litellm.InternalServerError 500",
    "slow": "litellm.Timeout 504",
}


def test_each_error_becomes_litellms_own(recipes: Recipes, tmp_path: Path) -> None:
    found = recipes.program(tmp_path, "litellm_errors.py")
    assert found["chat"] == found["responses"] == EXPECTED
    assert found["midway"] == "litellm.MidStreamFallbackError 500"  # its routers go on with another model
