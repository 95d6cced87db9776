"""One writer at a time, also where the disk cannot tell."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from vdiffsr_jax.weights import whole


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=os.strerror)
@pytest.mark.parametrize("left", [False, True], ids=["new", "after a kill"])
def test_a_disk_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, left: bool):
    """Lustre, or NFS without its lock daemon; a writer on another host was killed, and nobody can ask about it."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    if left:
        (tmp_path / f".model{whole.LOCK}").write_text("1234\nanother-host\n")
    with whole.alone(tmp_path / "model"):
        (tmp_path / "model").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "lock").write_text("1234\nanother-host\n")
    with whole.locked(tmp_path / "lock", timeout=5):  # whoever would wait does not
        pass


def test_a_folder_that_cannot_be_written_to_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), whole.alone(tmp_path / "model"):
        pass
