"""Grading: what a text gives as its answer, and whether that is right."""

from __future__ import annotations

from tandem.grading.extract import extract_answer
from tandem.grading.graders import grade
from tandem.grading.pool import close_graders

__all__ = ["close_graders", "extract_answer", "grade"]
