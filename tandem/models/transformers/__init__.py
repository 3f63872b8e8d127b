"""Models inside this process, with Transformers."""

from __future__ import annotations

from tandem.models.transformers.model import TransformersModel

__all__ = ["TransformersModel"]
