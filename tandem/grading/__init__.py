"""Grading: extracting a text's answer, and checking whether it is right."""

from __future__ import annotations

from tandem.grading.algebra import close_graders
from tandem.grading.extract import extract_answer
from tandem.grading.graders import DEADLINE, GRADERS, Grading, answer_of, grade, grader_of, sandbox_for
from tandem.grading.sandbox import Sandbox, open_sandbox

__all__ = [
    "DEADLINE",
    "GRADERS",
    "Grading",
    "Sandbox",
    "answer_of",
    "close_graders",
    "extract_answer",
    "grade",
    "grader_of",
    "open_sandbox",
    "sandbox_for",
]
