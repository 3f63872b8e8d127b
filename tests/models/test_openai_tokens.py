"""Counting and cutting text by tokens: with a real tokenizer and with the estimate."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tandem.models.tokens import TokenCounter

TEXT = "The quick brown fox   jumps over\n\n the lazy dog; naïve café \U0001f30d\U0001f30d, 12345 = x**2. " * 3


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small byte-level tokenizer: characters of several bytes fall into several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 5, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize("kind", ["tokenizer", "folder", "estimate"])
def test_cut_is_the_longest_beginning_that_fits(
    kind: str, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))  # empty: nothing may be downloaded
    path = {"tokenizer": tokenizer_path, "folder": tokenizer_path.parent, "estimate": None}[kind]
    counter = TokenCounter("stub", path)
    whole = counter.count(TEXT)
    assert whole > 10
    assert counter.cut(TEXT, whole) == counter.cut(TEXT, 10 * whole) == TEXT
    assert counter.cut(TEXT, 0) == counter.cut("", 5) == ""
    heads = [counter.cut(TEXT, n) for n in range(1, whole)]
    assert all(TEXT.startswith(head) for head in heads)
    assert all(counter.count(head) <= n for n, head in enumerate(heads, 1))
    assert all(len(a) <= len(b) for a, b in pairwise(heads))
    if kind != "estimate":
        # Not too short either: a token's worth of characters more would not fit.
        assert all(counter.count(TEXT[: len(head) + 12]) > n for n, head in enumerate(heads, 1) if n < whole - 12)


def test_the_estimate_cuts_between_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    counter = TokenCounter("stub", None)
    assert counter.cut("one two three four", 3) == "one two"
    assert counter.cut("x" * 100, 3) == "x" * 12
