"""Data sets: public ones by name (a card each under data/), a plugin's, or any JSONL, CSV or Parquet file by path."""

from __future__ import annotations

from tandem.datasets.cards import DatasetCard, cards, load_card
from tandem.datasets.loaders import load_dataset

__all__ = ["DatasetCard", "cards", "load_card", "load_dataset"]
