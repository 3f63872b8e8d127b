"""JSON, several choices and a continued message from `tandem serve` as a process, with an intern at an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from serve_process import serve_process
from stub import Reply, Stub

JSON = ('{"result"', ": 391", "}")


class Sum(BaseModel):
    result: int


def respond(body: dict[str, Any]) -> Reply:
    """Answer in JSON where that is asked for, in words or by `response_format`."""
    wanted = "response_format" in body or "JSON Schema" in str(body["messages"])
    return Reply(tokens=JSON if wanted else ("391",))


async def test_an_intern_at_an_endpoint_is_asked_by_the_schema(tmp_path: Path) -> None:
    asked: Any = [{"role": "user", "content": "What is 17*23?"}]
    async with Stub(respond=respond, models=[{"id": "gpt-4o-mini", "object": "model"}]) as stub:
        pair = ("--mentor", "fake", "--intern", "gpt-4o-mini", "--intern-endpoint", stub.url, "--effort", "none,low=5")
        async with (
            serve_process(tmp_path, *pair) as server,
            AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        ):
            for model in ("intern", "tandem", "fixed:low"):
                found = await client.chat.completions.parse(model=model, messages=asked, response_format=Sum, n=2)
                assert [choice.message.parsed for choice in found.choices] == [Sum(result=391)] * 2
                async with client.chat.completions.stream(model=model, messages=asked, response_format=Sum) as stream:
                    assert (await stream.get_final_completion()).choices[0].message.parsed == Sum(result=391)
            formed = [seen.body for seen in stub.seen if "response_format" in seen.body]
            assert formed and all(body["response_format"]["json_schema"]["name"] == "Sum" for body in formed)
            assert not any("response_format" in str(body["messages"]) for body in formed)

            class Other(BaseModel):
                total: int

            with pytest.raises(openai.InternalServerError) as failed:
                await client.chat.completions.parse(model="intern", messages=asked, response_format=Other)
            assert failed.value.status_code == 502 and failed.value.code == "invalid_output"

            ignored = await client.chat.completions.with_raw_response.create(
                model="intern", messages=asked, user="me", store=True
            )
            assert ignored.headers["x-tandem-ignored"] == "store, user"
