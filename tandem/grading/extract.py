r"""Extracting the answer of a text. Only the part after the thinking block counts.

Math, in this order: the last balanced \boxed{...} or \fbox{...}, with those that "or", "and" or a comma joins to it;
a line `#### x` among the last three; what follows "answer is", "answer:" or "answer =" in the last three lines; the
whole text if it is itself a bare answer; the display of several lines that ends the text; at last the formula that
ends the last line, or the last number in it. A number further up is never taken: a text that only
calculates has no answer, nor has one that ends inside its only box.
"""

from __future__ import annotations

import re

from tandem.boxed import joined_boxes, last_boxed
from tandem.grading.answer_spans import PHRASE, TAIL_CHARACTERS, tail
from tandem.grading.choices import chosen_letter
from tandem.grading.programs import extract_program
from tandem.thinking import after_thinking
from tandem.types import TaskKind

_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{(?!\s*\})")
_HASHES = re.compile(r"^[ *]*#### *([-+$€£\\(\[{.\d*].*)$", re.MULTILINE)
_SPAN = re.compile(r"\$\$(.+?)\$\$|\$(?=\S)(.+?)(?<=\S)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_DISPLAY = re.compile(r"(?:\\\[(?P<brackets>.+?)\\\]|\$\$(?P<dollars>.+?)\$\$)\W*$", re.DOTALL)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|[;!?]|,? (?:because|since|which|so)\b")
_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(rf"(?:(?<![\w)}}])[-−])?\$?(?:\\frac\{{\d+\}}\{{\d+\}}|(?:{_DECIMAL})(?:/\d+)?\s?(?:\\?%)?)")
_IDEOGRAPHS = re.compile(r"[\u2e80-\uffef]")  # a sentence, though without spaces
_BARE_WORDS = {"sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "sqrt", "pi", "and", "or", "in", "inf"}


def extract_answer(task: TaskKind, text: str) -> str | None:
    """Return the answer in `text`, or None if it gives none.

    `math`: see the module; `code`: the program, as programs.py finds it; `choice`: the letter, boxed, after "answer
    is", in parentheses in the last lines, or alone; `general`: what is boxed, else all the text. A thinking block that
    never closes means no answer.
    """
    after = after_thinking(text)
    seen = after.strip()
    if not seen:
        return None
    if task == "math":
        if boxes := joined_boxes(seen):
            return ", ".join(dict.fromkeys(boxes))
        return None if _OPEN_BOX.search(seen) else _unboxed(seen)  # an open box: cut off in the midst of the answer
    if task == "code":
        return extract_program(after)
    if task == "choice":
        return chosen_letter(seen)
    return last_boxed(seen) or seen


def extract_hashes(text: str) -> str | None:
    """Return a math answer in GSM8K's own form, the last line `#### x` wherever it stands; else as for math."""
    hashes = _HASHES.findall(after_thinking(text))
    return str(hashes[-1]).strip(" *") if hashes else extract_answer("math", text)


def stated_answer(reference: str) -> str:
    """Return the final answer of a reference that is a whole solution (GSM8K's, a box); any other as it stands."""
    if hashes := _HASHES.findall(reference):
        return str(hashes[-1]).strip(" *")
    return ", ".join(dict.fromkeys(joined_boxes(reference))) or reference


def _unboxed(text: str) -> str | None:
    end = tail(text)
    if hashes := _HASHES.findall(end):
        return str(hashes[-1]).strip()
    if phrased := [rest for match in PHRASE.finditer(end) if (rest := _stated(match["rest"]))]:
        return next((rest for rest in reversed(phrased) if re.search(r"[\d\\]", rest)), phrased[-1])
    if _is_bare(text):
        return text
    if (display := _DISPLAY.search(text[-TAIL_CHARACTERS:])) and "\n" in display[0]:
        return " ".join((display["brackets"] or display["dollars"]).split())
    line = end.splitlines()[-1]
    spans = list(_SPAN.finditer(line))
    if spans and not re.search(r"\w", line[spans[-1].end() :]):
        return _inside(spans[-1])
    numbers = _NUMBER.findall(line)
    return numbers[-1].strip() if numbers else None


def _inside(span: re.Match[str]) -> str:
    return next(group for group in span.groups() if group is not None).strip()


def _stated(rest: str) -> str:
    """Return what "the answer is" states: the formula that follows at once, else the words up to the sentence's end."""
    if span := _SPAN.match(rest):
        return _inside(span)
    return _SENTENCE_END.split(rest, maxsplit=1)[0].strip(" *_`.,")


def _is_bare(text: str) -> bool:
    """Whether the text is a bare answer: a formula, a number with its unit, up to three words."""
    if "\n" in text or len(text) > 200 or _IDEOGRAPHS.search(text):
        return False
    formula = re.sub(r"\\(?:text\w*|mbox|mathrm)\s*\{[^{}]*\}|\\[A-Za-z]+(?:\s*\{[pbvB]?matrix\})?", " ", text)
    prose = re.findall(r"(?<![\w^])[A-Za-z]{2,}(?=[\s.,;:!?]|$)", formula)
    words = [word for word in prose if word.lower() not in _BARE_WORDS and not word.isupper()]
    if not re.search(r"\d", formula):
        return len(words) <= 3
    return not words or re.fullmatch(rf"\$?(?:{_DECIMAL})\s*[A-Za-z]+(?:\^?[23²³])?\.?", text) is not None
