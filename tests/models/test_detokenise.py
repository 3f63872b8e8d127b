from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.models.transformers.detokenise import Detokeniser

# Tokens are bytes here: most characters outside ASCII take several.
CLEAN = st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"]), max_size=30)


def decode(ids: list[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


@given(prompt=CLEAN, text=CLEAN)
def test_the_pieces_are_whole_characters_and_make_up_the_text(prompt: str, text: str) -> None:
    detokeniser = Detokeniser(decode, list(prompt.encode()))
    pieces = [detokeniser.push(byte) for byte in text.encode()]
    assert "".join(pieces) + detokeniser.flush() == text
    assert not any("\ufffd" in piece for piece in pieces)


@given(text=CLEAN, stop=st.lists(st.text("ab\n", min_size=1, max_size=3), min_size=1, max_size=3))
def test_nothing_of_a_stop_string_comes_out(text: str, stop: list[str]) -> None:
    text = "xab" + text + "ba\n"
    detokeniser = Detokeniser(decode, [], stop)
    out = ""
    for byte in text.encode():
        out += detokeniser.push(byte)
        if detokeniser.stopped:
            break
    else:
        out += detokeniser.flush()
    # The stop string that is complete first ends the text.
    ends = [at + len(s) for s in stop if (at := text.find(s)) >= 0]
    heads = [text[: min(ends)].removesuffix(s) for s in stop if ends and text[: min(ends)].endswith(s)]
    assert detokeniser.stopped == bool(ends)
    assert out == (min(heads, key=len) if heads else text)


def test_a_character_begun_in_the_prompt_is_finished() -> None:
    first, *rest = "é".encode()
    detokeniser = Detokeniser(decode, [*b"caf", first])
    assert [detokeniser.push(byte) for byte in [*rest, *b"s"]] == ["é", "s"]


def test_half_a_character_at_the_end_is_dropped() -> None:
    detokeniser = Detokeniser(decode, [])
    assert [detokeniser.push(byte) for byte in [*b"a", *"🎉".encode()[:3]]] == ["a", "", "", ""]
    assert detokeniser.flush() == ""
