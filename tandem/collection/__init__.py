"""Progressive collection: the intern's signals and correctness for each problem at every level of one insight.

One mentor generation for the insight, cut at every level, and one for the mentor's own answer (in `prefix` mode one
for both); one intern answer per level and sample. Rows are stored in a folder, keyed by (problem, level, sample); the
same command resumes a stopped collection, with any number of workers. `export` makes the table that is committed: ids,
signals, labels and counts, no texts.
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
