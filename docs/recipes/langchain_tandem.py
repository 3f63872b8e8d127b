"""ChatOpenAI with the fields that Tandem adds: ChatOpenAI drops all fields that OpenAI does not have."""

from __future__ import annotations

from typing import Any

from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI


class ChatTandem(ChatOpenAI):
    """A pair behind `tandem serve`.

    The insight is a message's `additional_kwargs["reasoning_content"]`, and a block of the type `reasoning` among its
    `content_blocks`. The events of a stream with `extra_body={"tandem": {"events": True}}` are the
    list `additional_kwargs["tandem"]`; the cost by role is `response_metadata["token_usage"]["tandem"]`.
    """

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        payload = response if isinstance(response, dict) else response.model_dump()
        for generation, choice in zip(result.generations, payload["choices"], strict=True):
            _keep_insight(generation.message, choice["message"])
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        generation = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        if generation is None:
            return None
        message = generation.message
        for choice in chunk["choices"]:
            _keep_insight(message, choice["delta"])
        if event := chunk.get("tandem"):
            message.additional_kwargs["tandem"] = [event]  # lists are concatenated when chunks are added
        if usage := chunk.get("usage"):
            message.response_metadata["token_usage"] = usage
        return generation


def _keep_insight(message: Any, fields: dict[str, Any]) -> None:
    if insight := fields.get("reasoning_content"):
        message.additional_kwargs["reasoning_content"] = insight
    message.response_metadata["model_provider"] = (
        "tandem"  # else content_blocks are parsed as OpenAI's, without reasoning
    )
