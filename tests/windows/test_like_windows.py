"""What stands in the way of Windows: locks, open files, names, text and consoles. See `emulated/sitecustomize.py`."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gsvexport.artifact import container
from gsvexport.artifact.kept import prune_unpacked
from gsvexport.artifact.keys import new_key
from gsvexport.cli.echo import echo, readable
from gsvexport.compiler.build import build
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError, TargetError, VoiceError
from gsvexport.files import atomic_directory, atomic_file, disk_errors, temporary_directory
from gsvexport.registry.index import Entry, check_name
from gsvexport.registry.places import FolderPlace, open_place
from gsvexport.synthetic import write_voice
from gsvexport.system import disk, locks, names
from gsvexport.target.target import read_target
from gsvexport.untrusted.reading import safe_name
from gsvexport.voice.profile import read_profile

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGE = ROOT / "gsvexport"
NAME = "synthetic-x86-64.gsv"
linux = pytest.mark.skipif(sys.platform != "linux", reason="the emulation asks /proc what is open")


def emulated(*line, encoding="utf-8", **more):
    """Python in a process that finds a system like Windows."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE / 'emulated'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", **more}
    environment.pop("GSVEXPORT_DEBUG", None)
    command = [sys.executable, *map(str, line)]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, encoding=encoding, timeout=500, check=False
    )


# Everything at once


@linux
def test_a_voice_goes_through_every_command_and_its_artifact_has_the_same_bytes(tmp_path, monkeypatch):
    voice, log = write_voice(tmp_path / "voice"), tmp_path / "log"
    places = {"GSVEXPORT_CACHE": str(tmp_path / "cache"), "GSVEXPORT_CONFIG": str(tmp_path / "config")}
    more = {**places, "LIKEWINDOWS_LOG": str(log), "PYTHONIOENCODING": "cp437", "encoding": "cp437"}
    done = emulated(HERE / "flow.py", voice, tmp_path, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n[0] ") + done.stdout.startswith("[0] ") >= 14
    assert "defect" not in done.stderr
    assert "\\u" not in done.stdout + done.stderr
    # Locks alone are removed while they are open: where that is refused, the release does it.
    refused = log.read_text().splitlines()
    assert [line for line in refused if not line.split("\t")[0].endswith(("files:_discard", "held:_give_back"))] == []
    assert not [path for path in tmp_path.rglob("*") if ".partial" in path.name]
    assert not list(tmp_path.rglob("*.user"))

    pruned = emulated("-m", "gsvexport", "cache", "--prune", **more)
    assert pruned.returncode == 0, pruned.stderr
    assert not list((tmp_path / "cache" / "store").glob("*/index.json"))
    assert not list((tmp_path / "cache" / "unpacked").iterdir())

    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "plain"))
    [plain] = build(voice, ["x86-64"], tmp_path / "plain-out")
    assert plain.read_bytes() == (tmp_path / "unsigned.gsv").read_bytes()


@linux
@pytest.mark.thorough  # a minute; the flow above goes through the same modules
def test_tests_of_files_locks_and_repositories_pass_there_too(tmp_path):
    """Those of these modules that use no process of POSIX."""
    modules = [
        *("tests/test_files.py", "tests/compiler/test_store.py", "tests/artifact/test_artifact.py"),
        *("tests/registry/test_pull.py", "tests/registry/test_publish.py"),
    ]
    left_out = "publishes_lists_and_pulls"  # finds its target by /proc
    options = ["-p", "no:cacheprovider", "--basetemp", tmp_path / "temp", "-k", f"not ({left_out})"]
    options += ["--junitxml", tmp_path / "told.xml"]
    done = emulated("-m", "pytest", *options, *modules, GSVEXPORT_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout[-5000:]
    told = ElementTree.parse(tmp_path / "told.xml").find("testsuite").attrib
    assert int(told["tests"]) - int(told["skipped"]) > 150
    assert int(told["failures"]) + int(told["errors"]) == 0


# The emulation is at least as strict as the real thing

STRICT = """
import os, mmap, sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "a").write_bytes(b"12345678"); (folder / "b").write_bytes(b"x")
def refused(what):
    try:
        what()
    except OSError:
        return
    raise SystemExit("not refused")
stream = open(folder / "a", "rb")
mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
for closed in (False, True):
    refused(lambda: os.unlink(folder / "a"))
    refused(lambda: (folder / "a").rename(folder / "c"))
    refused(lambda: os.replace(folder / "b", folder / "a"))
    refused(lambda: folder.rename(folder.parent / "moved"))
    stream.close()
mapped.close()
refused(lambda: os.rename(folder / "b", folder / "a"))
os.chmod(folder / "b", 0o444)
refused(lambda: os.unlink(folder / "b"))
os.replace(folder / "a", folder / "c")
import gsvexport.files as files
refused(lambda: files.os.open(folder, 0))
handle = files.os.open(folder / "c", 0)
refused(lambda: files.os.fsync(handle))
assert (files.os.name, files.sys.platform) == ("nt", "win32")
assert not any(hasattr(files.os, name) for name in ("geteuid", "sysconf", "sched_getaffinity", "O_NOFOLLOW", "fork"))
from filelock import FileLock
assert FileLock.__name__ == "SoftFileLock", FileLock
print("strict")
"""


@linux
def test_the_emulation_refuses_what_windows_refuses(tmp_path):
    (tmp_path / "folder").mkdir()
    done = emulated("-W", "ignore", "-c", STRICT, tmp_path / "folder")
    assert done.stdout.strip() == "strict", done.stdout + done.stderr


# Files that somebody has open


@pytest.fixture
def windows(monkeypatch):
    """What the package asks of `disk`, without half a minute of patience."""
    monkeypatch.setattr(disk, "WINDOWS", True)
    monkeypatch.setattr(disk, "PATIENCE", 0.2)


def refuse(monkeypatch, name, times, only=None):
    """Let `os.name` fail so many times as it does while a scanner has the file; returns the list of tries."""
    real, tried = getattr(os, name), []

    def stubborn(*paths, **more):
        if only and only not in str(paths[-1]):
            return real(*paths, **more)
        tried.append(paths)
        if len(tried) <= times:
            raise PermissionError(13, "The process cannot access the file", str(paths[0]))
        return real(*paths, **more)

    monkeypatch.setattr(os, name, stubborn)
    return tried


def test_a_file_that_a_scanner_has_open_for_a_moment_is_replaced(tmp_path, monkeypatch, windows):
    (tmp_path / "a").write_text("old")
    tried = refuse(monkeypatch, "replace", 2)
    with atomic_file(tmp_path / "a", force=True) as work:
        work.write_text("new")
    assert len(tried) == 3
    assert (tmp_path / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_stays_mapped_goes_aside(tmp_path, monkeypatch, windows):
    (tmp_path / "a").write_text("old")
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: real(source, target) if not target.exists() else deny())
    with atomic_file(tmp_path / "a", force=True) as work:
        work.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def deny(*_):
    raise PermissionError(13, "The process cannot access the file")


def test_a_file_that_stays_open_is_an_error_that_says_what_to_do_and_keeps_the_old_one(tmp_path, monkeypatch, windows):
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "replace", deny)
    monkeypatch.setattr(os, "rename", deny)
    with (
        pytest.raises(EnvironmentProblem, match=r"a cannot be replaced.*another program has it open") as caught,
        atomic_file(tmp_path / "a", force=True) as work,
    ):
        work.write_text("new")
    assert "close what uses it" in str(caught.value)
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_in_use_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, windows):
    with atomic_directory(tmp_path / "a") as work:
        (work / "x").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", deny)
        with pytest.raises(EnvironmentProblem), atomic_directory(tmp_path / "a", force=True) as work:
            (work / "x").write_text("new")
    assert (tmp_path / "a" / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    tried = refuse(monkeypatch, "rename", 2)
    with atomic_directory(tmp_path / "a", force=True) as work:
        (work / "x").write_text("new")
    assert len(tried) == 4
    assert (tmp_path / "a" / "x").read_text() == "new"


def test_elsewhere_a_missing_permission_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "PATIENCE", 1000.0)
    monkeypatch.setattr(os, "replace", deny)
    with pytest.raises(EnvironmentProblem, match="cannot be written"), atomic_file(tmp_path / "a"):
        pass


def test_pruning_leaves_a_folder_whole_that_some_program_has_open(tmp_path, monkeypatch, windows):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path))
    folder = tmp_path / "unpacked" / "a"
    folder.mkdir(parents=True)
    (folder / "x").write_text("1234")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", deny)
        assert prune_unpacked(0) == 0
    assert (folder / "x").read_text() == "1234"
    assert prune_unpacked(0) == 4
    assert not folder.exists()


def test_what_cannot_be_removed_now_goes_with_the_next_one(tmp_path, monkeypatch, windows):
    real = os.unlink
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda path, **more: deny() if str(path).endswith("open") else real(path, **more))
        with temporary_directory(tmp_path / "a") as work:
            (work / "open").write_text("x")
    assert len(list(tmp_path.iterdir())) == 1
    with temporary_directory(tmp_path / "a"):
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


# Locks


def test_a_lock_is_one_process_s_at_a_time_and_goes_with_it(tmp_path):
    path = tmp_path / "lock"
    code = f"""
import sys, time
from pathlib import Path
from gsvexport.system.locks import acquire
held = acquire(Path({str(path)!r}))
print(bool(held), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout.readline() == "True\n"
        assert locks.acquire(path) is None
        process.kill()
    held = locks.acquire(path, 10)
    assert locks.acquire(path) is None
    held.release()
    locks.acquire(path).release()


def test_without_filelock_posix_has_its_own_and_they_exclude_each_other(tmp_path, monkeypatch):
    held = locks.acquire(tmp_path / "lock")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "filelock", None)
        assert locks.acquire(tmp_path / "lock") is None
        held.release()
        plain = locks.acquire(tmp_path / "lock")
        assert locks.acquire(tmp_path / "lock", 0.05) is None
    assert locks.acquire(tmp_path / "lock") is None
    plain.release()
    locks.acquire(tmp_path / "lock").release()
    monkeypatch.setitem(sys.modules, "filelock", None)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(EnvironmentProblem, match="filelock"):
        locks.acquire(tmp_path / "lock")


# Names


WRONG = (
    "CON",
    "nul",
    "aux.txt",
    "COM1",
    "lpt9.onnx",
    "com¹",
    "CONIN$",
    "a.",
    "a ",
    "a:b",
    "a?",
    'a"b',
    "a|b",
    "a\nb",
    "a\\b",
)
RIGHT = ("alice", "console", "com", "com10", "a.b", ".hidden", "nul-a", "lpt.x", "größe", "a'b")


@pytest.mark.parametrize("name", WRONG)
def test_names_that_windows_keeps_or_does_not_take(name, tmp_path, monkeypatch):
    assert names.refused(name)
    assert not safe_name(name)
    assert not safe_name(f"golden/{name}")
    assert names.refused_path(tmp_path / name / "x")
    monkeypatch.setattr(disk, "WINDOWS", True)
    for write in (atomic_file, atomic_directory):
        with pytest.raises(InputError, match="Windows"), write(tmp_path / name):
            pytest.fail("the block must not run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RIGHT)
def test_names_that_it_takes(name, tmp_path):
    assert names.refused(name) is None
    assert names.refused_path(tmp_path / name) is None
    with atomic_file(tmp_path / name):
        pass


@pytest.mark.parametrize("name", ["nul", "con.v2", "com7", "alice."])
def test_no_voice_key_target_or_entry_has_such_a_name(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CONFIG", str(tmp_path))
    (tmp_path / "voice.toml").write_text(f'[voice]\nname = "{name}"\nlanguage = "en"\ngpt = "a"\nsovits = "b"\n')
    with pytest.raises(VoiceError, match=r"voice.toml:2: .*Windows"):
        read_profile(tmp_path)
    (tmp_path / f"{name}.toml").write_text('extends = "_onnxruntime"\n')
    with pytest.raises(TargetError, match=r"under Windows|Windows leaves out"):
        read_target(str(tmp_path / f"{name}.toml"))
    with pytest.raises(InputError, match="Windows"):
        new_key(name)
    with pytest.raises(InputError, match="Windows"):
        check_name(name, "voice")
    for key in ("name", "target"):
        right = {"name": "alice", "version": "1", "target": "x86-64", "manifest": "0" * 64, "digest": "0" * 64,
                 "size": 1, "model": "v2", "device": {}, "gates": {}}  # fmt: skip
        assert Entry.from_json({"schema": 1, **right}, "here").name == "alice"
        with pytest.raises(ArtifactError, match="cannot be right"):
            Entry.from_json({"schema": 1, **right, key: name}, "here")


def test_too_long_a_path_is_explained(tmp_path, monkeypatch):
    long = tmp_path / "/".join(["x" * 50] * 6)
    gone = FileNotFoundError(2, "The system cannot find the path specified", str(long))
    with pytest.raises(FileNotFoundError), disk_errors(long):
        raise gone
    monkeypatch.setattr(disk, "WINDOWS", True)
    with pytest.raises(EnvironmentProblem, match="too long") as caught, disk_errors(long):
        raise gone
    assert f"{len(str(long))} characters, of which Windows takes 259" in str(caught.value)
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        raise FileNotFoundError(2, "short", str(tmp_path / "a"))
    real = os.mkdir

    def mkdir(path, *more, **others):
        if len(os.fspath(path)) > 247:  # Windows leaves room for a file's name of DOS
            raise FileNotFoundError(2, "The system cannot find the path specified", os.fspath(path))
        return real(path, *more, **others)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(EnvironmentProblem, match="too long"), atomic_directory(long):
        pass


def test_a_repository_s_url_is_a_folder_of_this_machine(tmp_path):
    (tmp_path / "my voices").mkdir()
    (tmp_path / "my voices" / "a").write_text("x")
    place = open_place(f"{tmp_path.as_uri()}/my%20voices")
    assert isinstance(place, FolderPlace)
    assert place.read("a", 10) == b"x"
    with pytest.raises(InputError, match="machine server"):
        open_place("file://server/share")


@pytest.mark.parametrize("exclusive", ["link", "rename", "write"])
def test_only_one_creates_an_entry_whatever_the_file_system_can(tmp_path, monkeypatch, exclusive):
    if exclusive == "write":
        monkeypatch.setattr(os, "link", lambda *_: deny())
    if exclusive == "rename":
        real = os.rename

        def rename(source, target):  # as Windows'
            if os.path.exists(target):
                raise FileExistsError(17, "exists")
            real(source, target)

        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(disk, "WINDOWS", True)
    place = FolderPlace(tmp_path)
    assert place.create("entries/a", b"one")
    assert not place.create("entries/a", b"two")
    assert place.read("entries/a", 10) == b"one"
    assert [path.name for path in (tmp_path / "entries").iterdir()] == ["a"]


# Text


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_text_is_written_as_bytes_and_read_as_utf_8(path):
    """So that files are the same everywhere: Windows' own encoding and line ends are others."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {one.arg: one.value for one in node.keywords}
        where = f"{path}:{node.lineno}: {name}"
        if name == "write_text":
            pytest.fail(f"{where} ends lines with CR LF under Windows: write_bytes(text.encode())")
        if name == "read_text" and isinstance(node.func, ast.Attribute) and not node.args:
            assert "encoding" in given, f"{where} without its encoding"
        if name == "open" and isinstance(node.func, ast.Name):
            mode = node.args[1].value if len(node.args) > 1 else getattr(given.get("mode"), "value", "r")
            if "b" not in mode:
                assert "encoding" in given, f"{where} without its encoding"
                assert "r" in mode or "newline" in given, f"{where} ends lines with CR LF under Windows"
        if name in ("run", "Popen") and getattr(getattr(node.func, "value", None), "id", "") == "subprocess":
            assert "text" not in given or "encoding" in given, f"{where}: text without its encoding"


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "cp932", "utf-8"])
def test_a_console_that_is_not_utf_8_gets_readable_text(encoding, monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    readable()
    text = "x ≥ 1 → done… “né” 3 × 2 µs 你好"
    print(text) if encoding == "ascii" else echo(text)  # noqa: T201 - click takes ASCII for UTF-8
    stream.flush()
    said = raw.getvalue().decode(encoding)
    assert "done" in said
    if encoding == "utf-8":
        assert said == f"{text}\n"
    if encoding == "cp1252":
        assert said == "x >= 1 -> done… “né” 3 × 2 µs \\u4f60\\u597d\n"
    if encoding == "ascii":
        assert said == 'x >= 1 -> done... "n\\xe9" 3 x 2 us \\u4f60\\u597d\n'


@pytest.mark.parametrize("encoding", ["cp1252", "cp437"])
def test_every_page_and_error_is_readable_there(encoding, tmp_path):
    environment = {
        **os.environ,
        "PYTHONIOENCODING": encoding,
        "PYTHONPATH": str(ROOT),
        "GSVEXPORT_CACHE": str(tmp_path),
    }
    for arguments in (
        ["targets"],
        ["targets", "jetson-orin"],
        ["inspect", tmp_path / "größe-→.gsv"],
        ["build", "--help"],
    ):
        line = [sys.executable, "-m", "gsvexport", *map(str, arguments)]
        done = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode(encoding)
        assert "defect" not in said
        assert "Traceback" not in said
        assert said.strip()


def test_an_archive_has_no_member_that_is_another_one_under_windows(tmp_path):
    for name in ("a\\b", "C:/a", "c:a", "con", "a/nul.onnx", "a.", "b./c", "\\\\server\\a"):
        assert not safe_name(name), name
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "nul.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"nul\.onnx"):
        from gsvexport.artifact.manifest import Manifest

        container.with_members(Manifest("a", "v2", {"name": "x"}, "s", None, {}, {}, {}), tmp_path / "files")
