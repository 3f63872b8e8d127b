"""Progressive collection: for each problem, the intern's signals and correctness at every level of one insight.

One mentor generation for the insight, cut at every level, and one for the mentor's own answer (in `prefix` mode one
for both); one intern answer a level and sample. What was collected lies in a folder, keyed by (problem, level, sample);
the same command goes on where it stopped, with any number of workers. `export` makes the table that is committed: ids,
signals, labels and counts, no text of anybody's.
"""

from __future__ import annotations

from tandem.collection.collector import Collector
from tandem.collection.manifest import describe_collection, open_manifest
from tandem.collection.plan import CollectionPlan
from tandem.collection.rows import DRAFT_LENGTHS, WHOLE, Folder, Row, export

__all__ = [
    "DRAFT_LENGTHS",
    "WHOLE",
    "CollectionPlan",
    "Collector",
    "Folder",
    "Row",
    "describe_collection",
    "export",
    "open_manifest",
]
