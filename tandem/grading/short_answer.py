r"""Short free-form answers, as in BIG-Bench Hard: the reference decides the kind of answer.

A verdict (True, yes, valid), a number, brackets that close a sequence, a list of words in order, or else some words.
"""

from __future__ import annotations

import itertools
import re

from tandem.grading.answer_spans import PHRASE, answer_spans, strip_markup, tail
from tandem.grading.choices import normalise_words
from tandem.grading.extract import extract_answer
from tandem.grading.numbers import compare_numbers, only_number

_VERDICTS = (("true", "false"), ("yes", "no"), ("valid", "invalid"))
_BRACKETS = re.compile(r"[()\[\]{}<>\s]+")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_WORD_LIST = re.compile(r"[^\s,()]+(?: [^\s,()]+)+")
_MARKER = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+", re.MULTILINE)


def same_short_answer(reference: str, text: str) -> bool:
    pair = next((pair for pair in _VERDICTS if reference.casefold() in pair), None)
    if pair is not None:
        return _verdict(text, pair) == reference.casefold()
    if _NUMBER.fullmatch(reference):
        answer = extract_answer("math", text)
        bare = re.sub(r"[\s,$]", "", only_number(strip_markup(answer or "")))
        return bool(compare_numbers(reference, bare))
    if _BRACKETS.fullmatch(reference):
        return _brackets(text) == re.sub(r"\s", "", reference)
    if _WORD_LIST.fullmatch(reference) and _same_list(reference, text):
        return True
    return any(normalise_words(span) == normalise_words(reference) for span in answer_spans(text))


def _verdict(text: str, pair: tuple[str, str]) -> str | None:
    """Return which of two words the text settles on; "not valid" is invalid, "yes or no" is neither."""
    yes, no = pair
    found = re.compile(rf"(\b(?:not|n't)\s+(?:\w+ly\s+)?)?\b({yes}|{no})\b")
    stated = list(answer_spans(text))
    for number, span in enumerate(stated):
        lowered = span.casefold().strip(" .!,:;\"'()")
        matches = list(found.finditer(lowered))
        if not matches:
            continue
        verdicts = [(no if m[2] == yes else yes) if m[1] else m[2] for m in matches]
        hedged = re.match(rf"(?:{yes}|{no})\s*(?:or|and|/)\s*(?:{yes}|{no})\b", lowered)
        if matches[0].start() == 0 and not hedged:
            return verdicts[0]
        last_line = number == len(stated) - 1  # a sentence: only its end counts, "there is no way" says nothing
        if len(set(verdicts)) == 1 and (not last_line or matches[-1].end() == len(lowered)):
            return verdicts[-1]
    return None


def _brackets(text: str) -> str | None:
    """Return the brackets of the answer; a brace in a box may be escaped or not."""
    end = tail(text)
    line = end.rpartition("\n")[2]
    stated = [
        re.findall(r"\\boxed\{(.*)\}", end)[-1:],
        [match["rest"] for match in PHRASE.finditer(end)][-1:],
        ["".join(groups) for groups in re.findall(r"\*\*(.+?)\*\*|`(.+?)`", line)][-1:],
        [line],
    ]
    for found in itertools.chain(*stated):
        wrapped = re.fullmatch(r"\\(?:text\w*|math\w+)\{(.*)\}", found)
        bare = (wrapped[1] if wrapped else found).replace("\\langle", "<").replace("\\rangle", ">")
        runs = [re.sub(r"\s", "", run) for run in _BRACKETS.findall(re.sub(r"[\\$`*\"']", "", bare))]
        if runs := [run for run in runs if run]:
            return runs[-1]
    return None


def _same_list(reference: str, text: str) -> bool:
    wanted = reference.casefold().split()
    stated = list(answer_spans(text))
    if phrases := list(PHRASE.finditer(text)):
        stated.append(text[phrases[-1].start("rest") :])  # one word a line
    lines = text.splitlines()[-len(wanted) :]
    if all(_MARKER.match(line) for line in lines):
        stated.append("\n".join(lines))
    return any(_list(span) == wanted for span in stated)


def _list(span: str) -> list[str]:
    bare = _MARKER.sub("", span.rpartition(":")[2]).casefold()
    return [word for part in re.split(r"[\s,;]+", bare) if (word := part.strip(".\"'`*$_")) and word != "and"]
