"""Noticing changes of source files."""

from __future__ import annotations

import os

import pytest

from arbprov.cli.reloading import FileWatch


def test_a_modified_file_is_a_change(tmp_path):
    (tmp_path / "a.py").write_text("1")
    watch = FileWatch(tmp_path)
    os.utime(tmp_path / "a.py", (1, 1))
    assert watch.find_change() == tmp_path / "a.py"


def test_a_new_file_is_one_change(tmp_path):
    watch = FileWatch(tmp_path)
    (tmp_path / "a.py").write_text("1")
    assert [watch.find_change(), watch.find_change()] == [tmp_path / "a.py", None]


def test_a_removed_file_is_a_change(tmp_path):
    (tmp_path / "a.py").write_text("1")
    watch = FileWatch(tmp_path)
    (tmp_path / "a.py").unlink()
    assert watch.find_change() == tmp_path / "a.py"


def test_a_broken_link_is_not_watched(tmp_path):
    watch = FileWatch(tmp_path)
    (tmp_path / "a.py").symlink_to(tmp_path / "nowhere")
    assert watch.find_change() is None


@pytest.mark.parametrize("name", ["a.txt", ".venv/a.py", "__pycache__/a.py", "node_modules/a.py"])
def test_other_files_are_not_watched(tmp_path, name):
    watch = FileWatch(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("1")
    assert watch.find_change() is None
