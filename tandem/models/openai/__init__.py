"""Models behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from tandem.models.openai.model import OpenAIModel

__all__ = ["OpenAIModel"]
