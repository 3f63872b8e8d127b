"""Data sets: public ones by name (a card each under data/), or any JSONL file by path."""

from __future__ import annotations

from tandem.datasets.cards import Card, cards, load_card
from tandem.datasets.loaders import load_dataset

__all__ = ["Card", "cards", "load_card", "load_dataset"]
