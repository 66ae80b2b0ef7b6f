from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from gsvexport import files
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.files import atomic_directory, atomic_file, canonical_json


def test_an_interrupted_directory_leaves_nothing_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "out"
    with atomic_directory(path) as work:
        (work / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(path)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (path / "a").read_text() == "old"


def _interrupted(path):
    with atomic_directory(path, force=True) as work:
        (work / "a").write_text("new")
        raise KeyboardInterrupt


def test_force_replaces_a_directory_as_a_whole(tmp_path):
    path = tmp_path / "out"
    for name in ("a", "b"):
        with atomic_directory(path, force=True) as work:
            (work / name).write_text(name)
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("write", ["atomic_file", "atomic_directory"])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, write):
    code = f"""
import sys, time
from pathlib import Path
from gsvexport.files import {write}
with {write}(Path(sys.argv[1])):
    print("writing", flush=True)
    time.sleep(60)
"""
    line = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        with getattr(files, write)(tmp_path / "out", force=True) as work:
            assert len(list(tmp_path.iterdir())) == 2
            if write == "atomic_directory":
                (work / "a").write_text("a")
        assert len(list(tmp_path.iterdir())) == 2
        process.kill()
    assert len(list(tmp_path.iterdir())) == 2
    with getattr(files, write)(tmp_path / "another"):
        assert len(list(tmp_path.iterdir())) == 3
    with getattr(files, write)(tmp_path / "out", force=True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "out"]


def test_an_existing_output_is_refused_before_anything_is_done(tmp_path):
    path = tmp_path / "out"
    path.write_text("mine")
    with pytest.raises(InputError, match="--force"), atomic_file(path):
        pytest.fail("the block must not run")
    assert path.read_text() == "mine"


def test_a_file_never_replaces_a_folder_nor_a_folder_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a folder"), atomic_file(tmp_path / "folder", force=True):
        pytest.fail("the block must not run")
    with pytest.raises(InputError, match="is a file"), atomic_directory(tmp_path / "file", force=True):
        pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("write", [atomic_file, atomic_directory])
@pytest.mark.parametrize("name", ["file/out", "/proc/out", "x" * 300], ids=["below-a-file", "proc", "long"])
def test_a_place_that_takes_no_files_is_the_machines_problem(tmp_path, write, name):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EnvironmentProblem, match="cannot be written"), write(tmp_path / name):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")]
)
def test_a_full_disk_is_the_machines_problem_whoever_notices_it(tmp_path, error):
    with pytest.raises(EnvironmentProblem, match="the disk is full"), atomic_directory(tmp_path / "out"):
        raise error
    assert not list(tmp_path.iterdir())


def test_other_errors_are_not_touched(tmp_path):
    with pytest.raises(RuntimeError, match="something else"), atomic_file(tmp_path / "out"):
        raise RuntimeError("something else")


def test_files_are_readable_as_the_umask_says_even_if_a_library_was_stricter(tmp_path):
    with atomic_directory(tmp_path / "out") as work:
        (work / "a").write_text("a")
        (work / "a").chmod(0o600)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "out" / "a").stat().st_mode & 0o777 == 0o666 & ~mask


def test_equal_values_give_equal_text():
    assert canonical_json({"b": 1, "a": [1.5, "ä"]}) == canonical_json({"a": [1.5, "ä"], "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
