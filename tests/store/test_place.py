"""Where a store cannot lie is said before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coldpress.errors import StoreError
from coldpress.store import check_place


def test_a_file_and_a_folder_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(StoreError, match="is not empty and not a store"):
        check_place(tmp_path)
    with pytest.raises(StoreError, match="is a file, expected a directory"):
        check_place(tmp_path / "photo.jpg")
    check_place(tmp_path / "new" / "store")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot be written: .* is not writable"):
        check_place(tmp_path / "store")
