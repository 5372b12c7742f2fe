"""A checkpoint goes into its file without being held in memory a second and a third time."""

from __future__ import annotations

import errno
import resource
import tracemalloc
from pathlib import Path

import pytest
import torch

from activeselect.training.callback import StreamedCheckpoint

BYTES = 8_000_000


def test_writing_holds_no_copy_in_memory(tmp_path: Path) -> None:
    state = {"state_dict": {"weight": torch.arange(BYTES // 4, dtype=torch.float32)}, "epoch": 3}
    tracemalloc.start()
    StreamedCheckpoint().save_checkpoint(state, tmp_path / "new" / "fit.tmp")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < BYTES / 8
    found = torch.load(tmp_path / "new" / "fit.tmp", weights_only=True)
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["weight"], state["state_dict"]["weight"])


def test_a_full_disk_says_so_and_leaves_no_half_file(tmp_path: Path) -> None:
    state = {"state_dict": {"weight": torch.zeros(BYTES // 4)}}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as refused:
            StreamedCheckpoint().save_checkpoint(state, tmp_path / "fit.tmp")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.errno == errno.EFBIG
    assert not (tmp_path / "fit.tmp").exists()
