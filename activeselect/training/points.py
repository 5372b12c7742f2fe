"""Test points: the model tested on its way through a fit, each point kept in files of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from activeselect.scoring.distributed import once
from activeselect.scoring.scorer import Scores
from activeselect.seals import RESTORE, Seals

#: Tests the model as it is now.
Test = Callable[[Any], Scores]
#: What is known of a run at this moment, given the test accuracy.
Entry = Callable[[float | None], dict[str, Any]]
_ROUNDING = 1e-9  # of an epoch's part in samples


class TestPoints:
    """Tests the model every ``every`` samples, and never twice at the same place.

    A point is due after the first batch that reaches it. Its answers and its entry lie in the run
    folder from then on, so a run that is stopped and continued keeps every point it has passed.
    Points that lie closer together than one batch are one point.

    Args:
        folder: where predictions are written.
        stage: number of the fit within its run.
        seals: of the run folder.
        every: samples from one point to the next.
        total: samples of the whole fit; its end is not a point, a run tests there anyway.
        seen: samples of this fit so far.
        test: see :data:`Test`.
        entry: see :data:`Entry`.
    """

    __test__ = False  # for pytest, which takes the name for a test

    def __init__(
        self,
        folder: Path,
        stage: int,
        seals: Seals,
        *,
        every: float,
        total: int,
        seen: Callable[[], int],
        test: Test,
        entry: Entry,
    ) -> None:
        self.folder, self.stage, self.every, self.total = folder, stage, every, total
        self.seals = seals
        self._seen, self._test, self._entry = seen, test, entry
        self._passed = 0  # number of the last point that is known to be kept

    def __call__(self, model: Any) -> None:
        """Test the model if a point is due."""
        number = point_at(self._seen(), self.every, self.total)
        if number <= self._passed:
            return
        if not once(self._file(number).exists):
            self._keep(number, self._test(model))
        self._passed = number

    def entries(self) -> list[dict[str, Any]]:
        """Entries of the points so far, in their order."""
        files = sorted(self.folder.glob(f"stage-{self.stage}-point-*.parquet"))
        return [self.seals.read_json(file.with_suffix(".json"), RESTORE) for file in files]

    def _keep(self, number: int, scores: Scores) -> None:
        accuracy = accuracy_of(scores)
        file = self._file(number)
        entry = {**self._entry(accuracy), "predictions": file.name}

        def write() -> None:
            self.seals.write_json(file.with_suffix(".json"), entry)
            write_predictions(file, scores, self.seals)  # last: with it the point is complete

        once(write)

    def _file(self, number: int) -> Path:
        return self.folder / f"stage-{self.stage}-point-{number:04d}.parquet"


def point_at(seen: int, every: float, total: int) -> int:
    """Number of the last point at or before ``seen`` samples; 0 = none, and none at the end.

    Example:
        >>> [point_at(seen, every=30, total=120) for seen in (29, 30, 89, 90, 120)]
        [0, 1, 2, 3, 0]
    """
    return 0 if seen >= total else int(seen / every + _ROUNDING)


def accuracy_of(scores: Scores) -> float:
    """Share of the test problems that are answered right."""
    assert scores.correct is not None
    return float(scores.correct[:, 0].mean())


def write_predictions(file: Path, scores: Scores, seals: Seals) -> None:
    """Write right or wrong for each test problem, for paired statistics."""
    assert scores.correct is not None
    table = pa.table({"index": scores.index, "correct": scores.correct[:, 0]})
    with seals.replacing(file) as temporary:
        pq.write_table(table, temporary)
