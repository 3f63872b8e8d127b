r"""Multiple choice: the letter chosen by a text, stated directly or by its option's text."""

from __future__ import annotations

import re

from tandem.boxed import last_boxed
from tandem.grading.answer_spans import answer_spans, strip_markup, tail

_OPTION = re.compile(r"^\s*(?:\(([A-Z])\)|([A-Z])[.):])\s*(\S.*?)\s*$", re.MULTILINE)
_BARE = re.compile(r"\(?([A-Za-z])\)?[.:]?|\(?([A-Z])[).:]\s*\S.*", re.DOTALL)
# What follows a bare letter: "A" and "I" are words too ("the answer is A dog").
_ENDS = r"(?=[\s*_]*(?:[).:,;\]\"'$—-]|$|\n|because\b|since\b|as\b|which\b|or\b|and\b|/))"
_PHRASE = re.compile(
    r"(?i:\b(?:answer|option|choice)\b)[^.:=\n]{0,60}?(?i:\b(?:is|be)\b|[:=])[\s*_:=\"'`$]*"
    r"(?i:(?:option|choice|letter)\s+)?[*_]*"
    rf"(?:\(([A-Za-z])\)|\(?([B-HJ-Z])\b(?!')|([AI]){_ENDS}(?!'))"
    r"(?P<more>[\s*_).]*(?:\bor\b|\band\b|/|,)\s*(?:(?:option|choice)\s+)?(?:\([A-Z]\)|[A-Z]\b(?![ '][a-z])))?"
)
_MARKED = re.compile(r"\(([A-Z])\)")


def chosen_letter(text: str) -> str | None:
    """Return the letter: boxed, after "answer is", in parentheses in the last lines, or alone; else None.

    "A or B" is no choice.
    """
    if (boxed := last_boxed(text)) and (letter := bare_letter(boxed)):
        return letter
    end = tail(text)
    if stated := list(_PHRASE.finditer(end)):
        last = stated[-1]
        return None if last["more"] else str(last[1] or last[2] or last[3]).upper()
    if marked := _MARKED.findall(end):
        return str(marked[-1])
    return bare_letter(text)


def bare_letter(text: str) -> str | None:
    """Return the letter of a text that is nothing else: "C", "(c).", "B) 42"."""
    match = _BARE.fullmatch(strip_markup(text))
    return (match[1] or match[2]).upper() if match else None


def same_choice(question: str, reference: str, text: str) -> bool:
    """Whether `text` chooses what the reference names, each by letter or by the words of an option."""
    # Options by letter: lines that start with "(A)", "A." or "A)".
    offered = {match[1] or match[2]: normalise_words(match[3]) for match in _OPTION.finditer(question)}
    wanted = bare_letter(reference) or _letter_of(normalise_words(strip_markup(reference)), offered)
    letter = chosen_letter(text)
    if letter is None or (offered and letter not in offered):
        letter = next(
            (found for span in answer_spans(text) if (found := _letter_of(normalise_words(span), offered))), letter
        )
    if wanted is None:  # an answer that is none of the options, as in some data sets
        return any(normalise_words(span) == normalise_words(strip_markup(reference)) for span in answer_spans(text))
    return letter == wanted


def normalise_words(text: str) -> str:
    """Return a text for comparing: small letters, single spaces, no quotation marks, no full stop at the end."""
    return " ".join(re.sub(r"[\"'`*“”‘’]", "", text).split()).strip(" .").casefold()


def _letter_of(text: str, offered: dict[str, str]) -> str | None:
    fitting = [letter for letter, option in offered.items() if option == text]
    return fitting[0] if len(fitting) == 1 else None
