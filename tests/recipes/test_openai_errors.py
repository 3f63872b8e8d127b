"""The official client's exceptions, for chats and the Responses API, by the one server."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from recipes.conftest import Recipes

pytestmark = [pytest.mark.recipes, pytest.mark.slow]
CASES: list[tuple[dict[str, Any], type[openai.APIStatusError], str | None]] = [
    ({"key": "tdm-wrong"}, openai.AuthenticationError, "invalid_api_key"),
    ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found"),
    ({"extra": {"tandem": {"efort": "none"}}}, openai.BadRequestError, None),
    ({"model": "mentor", "asked": "word " * 3000}, openai.BadRequestError, "context_length_exceeded"),
    ({"key": "poor"}, openai.RateLimitError, "insufficient_quota"),
    ({"asked": "be down"}, openai.InternalServerError, "upstream"),
    ({"asked": "be broken"}, openai.InternalServerError, "upstream"),
    ({"asked": "be a bug"}, openai.InternalServerError, None),
]


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(("case", "kind", "code"), CASES, ids=lambda value: str(value)[:30])
def test_each_error_is_the_clients_own(
    recipes: Recipes, case: dict[str, Any], kind: type[openai.APIStatusError], code: str | None, api: str
) -> None:
    key, model, asked = case.get("key", "anyone"), case.get("model", "intern"), case.get("asked", "x")
    url = f"{recipes.server.url}/v1"
    client = openai.OpenAI(base_url=url, api_key=recipes.keys.get(key, key), max_retries=0)
    with client, pytest.raises(kind) as caught:
        if api == "chat":
            said: Any = [{"role": "user", "content": asked}]
            client.chat.completions.create(model=model, messages=said, extra_body=case.get("extra"))
        else:
            client.responses.create(model=model, input=asked, extra_body=case.get("extra"))
    assert caught.value.code == code
