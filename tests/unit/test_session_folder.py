"""Folders of ended sessions go with the next one; those of sessions that live stay."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.session_folder import YOUNG_SECONDS, SessionFolder, remove_left_folders


def aged(folder: Path) -> Path:
    """The folder, as if it had been made long ago."""
    os.utime(folder, (folder.stat().st_mtime - 2 * YOUNG_SECONDS,) * 2)
    return folder


def test_what_an_ended_session_left_is_removed(tmp_path: Path) -> None:
    """Nobody holds its lock any more."""
    ended = SessionFolder(tmp_path)
    (ended.path / "data").mkdir()
    ended.close()
    aged(ended.path)
    remove_left_folders(tmp_path)
    assert not ended.path.exists()


def test_the_folder_of_a_session_that_lives_stays(tmp_path: Path) -> None:
    """However old it is."""
    living = SessionFolder(tmp_path)
    aged(living.path)
    remove_left_folders(tmp_path)
    assert living.path.exists()
    living.close()


def test_a_folder_that_was_made_just_now_stays(tmp_path: Path) -> None:
    """Its session may not have locked it yet."""
    young = SessionFolder(tmp_path)
    young.close()
    remove_left_folders(tmp_path)
    assert young.path.exists()


def test_what_is_no_folder_of_a_session_stays(tmp_path: Path) -> None:
    """Other programs have their folders beside ours."""
    other = tmp_path / "other"
    other.mkdir()
    aged(other)
    remove_left_folders(tmp_path)
    assert other.exists()
