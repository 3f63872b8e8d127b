"""A fitted model in its file: saved with skops beside its plain numbers; loaded from trusted types, within bounds.

The file may come from a stranger: its size unpacked, its types and the nodes of its trees are looked at before it runs.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tandem.errors import TandemError
from tandem.storage.files import write_whole
from tandem.sufficiency.linear import Linear

MOST_BYTES = 64 * 2**20  # unpacked; a boosted model of ours has less than two
_MOST_NUMBERS = 2**20  # of the file of plain numbers
_MOST_PARTS = 20_000
# What `train` saves beyond skops' own list. Never "sklearn.*": some of its modules lead to subprocess and os.
_TRUSTED = frozenset(
    {
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    }
)


class Fitted:
    """A fitted model over rows of features: sklearn's `predict_proba`, or the plain numbers of the same model."""

    def __init__(self, estimator: Any, linear: Linear | None = None) -> None:
        self.estimator = estimator
        self._linear = linear

    def probability(self, row: Sequence[float]) -> float:
        if self._linear:
            return self._linear.probability(row)
        return float(self.estimator.predict_proba(np.asarray([row]))[0, 1])

    def save(self, file: Path, numbers: Path) -> None:
        """Write the model into `file`, and its plain numbers, where it has some, into `numbers`."""
        import skops.io

        write_whole(file, skops.io.dumps(self.estimator), parents=True)
        linear = Linear.of(self.estimator, _sha256(file))
        numbers.unlink(missing_ok=True)
        if linear:
            write_whole(numbers, linear.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, file: Path, numbers: Path, width: int, *, plain: bool = True) -> Fitted:
        """Load a model of `width` features; with `plain` from its numbers alone where they lie beside it.

        Raises TandemError for a file that is missing, damaged or too large, or that holds something else.
        """
        if plain and (linear := _read_numbers(file, numbers, width)):
            return cls(None, linear)
        import skops.io

        try:
            _check_size(file)
            types = skops.io.get_untrusted_types(file=file)
            foreign = sorted(set(types) - _TRUSTED)
            estimator = None if foreign else skops.io.load(file, trusted=types)
        except TandemError:
            raise
        except Exception as error:  # a damaged archive fails in many ways inside skops
            raise TandemError(f"classifier {file} is missing or corrupt ({type(error).__name__})") from None
        if foreign:
            raise TandemError(f"classifier {file} holds types that are not trusted: {', '.join(foreign)}")
        if not hasattr(estimator, "predict_proba") or getattr(estimator, "n_features_in_", 0) != width:
            raise TandemError(f"classifier {file} holds no classifier over the {width} signals that its card names")
        if not _sound(estimator, width):
            raise TandemError(f"classifier {file} is corrupt: its trees lead nowhere")
        return cls(estimator)


def _check_size(file: Path) -> None:
    """Raise TandemError where an archive is or unpacks to more than a model has; nothing is unpacked for it."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    if file.stat().st_size > MOST_BYTES or unpacked > MOST_BYTES or len(parts) > _MOST_PARTS:
        raise TandemError(
            f"classifier {file} is refused: it unpacks to {unpacked / 2**20:,.0f} MiB in {len(parts)} parts, "
            f"and no classifier has more than {MOST_BYTES // 2**20} MiB"
        )


def _read_numbers(file: Path, numbers: Path, width: int) -> Linear | None:
    """Return the plain numbers of the model in `file`; None if there are none, or if they are another model's."""
    try:
        if max(numbers.stat().st_size, file.stat().st_size) > MOST_BYTES or numbers.stat().st_size > _MOST_NUMBERS:
            return None
        linear = Linear.model_validate_json(numbers.read_bytes())
        fits = len(linear.weights) == width and linear.sha256 == _sha256(file)
    except (OSError, ValidationError):
        return None
    return linear if fits else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sound(estimator: Any, width: int) -> bool:
    """Return whether every node of an estimator's trees leads to a node, by a feature that there is.

    Compiled code follows them without looking, so a file from elsewhere must not lead it out of its arrays.
    """
    for calibrated in getattr(estimator, "calibrated_classifiers_", ()):
        for stage in getattr(calibrated.estimator, "_predictors", ()):
            for tree in stage:
                at = np.flatnonzero(tree.nodes["is_leaf"] == 0)
                inner = tree.nodes[at]
                children = np.stack([inner["left"], inner["right"]]).astype(np.int64)
                led = (children > at) & (children < len(tree.nodes))
                known = (inner["feature_idx"] >= 0) & (inner["feature_idx"] < width) & (inner["is_categorical"] == 0)
                if not (len(tree.nodes) and led.all() and known.all()):
                    return False
    return True
