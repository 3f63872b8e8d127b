"""The server against its own description: whatever is sent, it answers as it says it does, and never with a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from serving import intern, serving

CHECKS: Any = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODELS = st.sampled_from(["tandem", "tandem:low", "intern", "mentor", "fixed:high", "budget-forcing:3"])
POSTS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"]
GETS = ["/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/{model}", "/v1/tandem", "/tokenizer_info"]

ASKED = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "tokens": []}
RELATED = (
    "tandem",
    "n",
    "stream_options",
    "tools",
    "tool_choice",
    "response_format",
    "text",
    "logprobs",
    "top_logprobs",
    "echo",
)

few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def schema() -> Iterator[Any]:
    with serving(None, intern("yes"), deadline=20.0) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_path_is_described(schema: Any) -> None:
    assert sorted(found.ok().path for found in schema.get_all_operations()) == sorted(GETS + POSTS)


@pytest.mark.slow
@pytest.mark.parametrize("path", GETS)
def test_what_is_looked_at_is_as_described(schema: Any, path: str) -> None:
    @given(case=schema[path]["GET"].as_strategy())
    @few
    def look(case: Case) -> None:
        case.call_and_validate(checks=CHECKS)

    look()


@pytest.mark.slow
@pytest.mark.parametrize("tame", [False, True])
@pytest.mark.parametrize("path", POSTS)
def test_what_fits_the_description_is_no_fault(schema: Any, path: str, tame: bool) -> None:
    seen: Counter[int] = Counter()

    @given(case=schema[path]["POST"].as_strategy(generation_mode=GenerationMode.POSITIVE), model=MODELS)
    @few
    def ask(case: Case, model: str) -> None:
        body: Any = case.body
        body["model"] = model
        if tame:  # without what the description cannot rule out
            for name in RELATED:
                body.pop(name, None)
            body |= {name: value for name, value in ASKED.items() if name in body}
        if "tokenize" in path:
            body["model"] = "intern"
        response = case.call()
        seen[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    ask()
    assert set(seen) <= {200, 400} and (seen[200] > 10 or not tame), seen


@pytest.mark.slow
@pytest.mark.parametrize("path", POSTS)
def test_what_does_not_fit_is_refused(schema: Any, path: str) -> None:
    @given(case=schema[path]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE), model=MODELS)
    @few
    def ask(case: Case, model: str) -> None:
        if isinstance(case.body, dict) and isinstance(given := case.body.get("model"), str) and len(given) <= 200:
            case.body["model"] = model
        case.call_and_validate(checks=[*CHECKS, negative_data_rejection])

    ask()
