"""Python as gsvexport meets it under Windows, emulated on Linux: put this folder first on PYTHONPATH.

For the package `gsvexport` alone `os.name` is "nt", `sys.platform` is "win32", and what POSIX alone has is absent; nor
has filelock POSIX locks. For everybody

- a file that this process has open or mapped is not renamed, replaced or removed, nor is a folder with one in it;
- a rename replaces nothing, and what is for reading alone is not removed.

And gsvexport's text files are cp1252 with CR LF unless it says otherwise. Stricter than Windows: it lets a mapped file
be renamed whose handle is closed, and libraries may open files so that others can remove them. LIKEWINDOWS_LOG names a
file that every refusal is written to, with the place in gsvexport that met it.
"""

import builtins
import errno
import io
import os
import pathlib  # noqa: F401
import shutil
import stat
import sys
import tempfile  # noqa: F401
import types

POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = """
O_ACCMODE O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_LARGEFILE O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK
O_PATH O_RSYNC O_SYNC O_TMPFILE WNOHANG chown chroot confstr copy_file_range ctermid fchdir fchmod fchown fork forkpty
getegid geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid initgroups killpg lchown
lockf major makedev memfd_create minor mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate
posix_spawn pread preadv pwrite pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile
setegid seteuid setgid setgroups setpgid setpriority setsid setuid splice statvfs sync sysconf sysconf_names
tcgetpgrp ttyname uname wait wait3 wait4 writev
""".split()  # noqa: SIM905 - read as a text
OURS = "gsvexport"
EXEMPT = ("filelock", "tempfile", "multiprocessing", "_pytest", "hypothesis", "xdist", "execnet", "importlib")
real = types.SimpleNamespace(
    **{
        name: getattr(os, name)
        for name in ("open", "link", "replace", "rename", "unlink", "rmdir", "readlink", "listdir")
    }
)
real_open, real_import = io.open, builtins.__import__


def caller(depth=2, through=("pathlib", "shutil", __name__)):
    """The module that asked, behind the parts of the standard library that only pass on."""
    frame = sys._getframe(depth)
    while frame is not None and frame.f_globals.get("__name__", "") in through:
        frame = frame.f_back
    return frame.f_globals.get("__name__", "") if frame else ""


def note(what):
    """Tell of a refusal, and of the innermost place in gsvexport that met it."""
    if not (log := os.environ.get("LIKEWINDOWS_LOG")):
        return
    frame = sys._getframe(2)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith(OURS + "."):
        frame = frame.f_back
    place = f"{frame.f_globals['__name__']}:{frame.f_code.co_name}" if frame else "elsewhere"
    with real_open(log, "a", encoding="utf-8") as out:
        out.write(f"{place}\t{what}\n")


def held():
    """Every path that this process has open or mapped, and the folder it stands in."""
    found = {os.getcwd()}
    for number in real.listdir("/proc/self/fd"):
        try:
            found.add(real.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    with real_open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        found |= {line[73:-1] for line in lines if line[73:74] == "/"}
    return found


def refuse(path, what):
    """Raise as Windows does where a file is open, or a file in a folder."""
    if caller(3).startswith(EXEMPT):
        return
    place = os.path.join(
        os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(os.path.abspath(path))
    )
    if used := [one for one in held() if one == place or one.startswith(place + "/")]:
        note(f"{what}\t{place}\tholds {used[0]}")
        raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used", str(path))


def refuse_read_only(path):
    """Raise as Windows does where a file is for reading alone."""
    try:
        found = os.lstat(path)
    except OSError:
        return
    if stat.S_ISREG(found.st_mode) and not found.st_mode & stat.S_IWUSR and not caller(3).startswith(EXEMPT):
        note(f"unlink\t{path}\tread-only")
        raise PermissionError(errno.EACCES, "Access is denied", str(path))


def replace(source, target, **folders):
    refuse(source, "replace")
    refuse(target, "replace")
    refuse_read_only(target)
    if os.path.isdir(target) and not caller().startswith(EXEMPT):
        note(f"replace\t{target}\ta folder")
        raise PermissionError(errno.EACCES, "Access is denied", str(source), None, str(target))
    real.replace(source, target, **folders)


def rename(source, target, **folders):
    refuse(source, "rename")
    if os.path.lexists(target) and not caller().startswith(EXEMPT):
        raise FileExistsError(
            errno.EEXIST, "Cannot create a file when that file already exists", str(source), None, str(target)
        )
    if os.path.isdir(source) or os.path.islink(source) or caller().startswith(EXEMPT):
        real.rename(source, target, **folders)
    else:  # what is there already is found out and refused in one step
        real.link(source, target)
        real.unlink(source)


def unlink(path, **folders):
    if not folders:
        refuse(path, "unlink")
        refuse_read_only(path)
    real.unlink(path, **folders)


def rmdir(path, **folders):
    if not folders:
        refuse(path, "rmdir")
    real.rmdir(path, **folders)


def open_text(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    """`open`, with what Windows takes where gsvexport does not say."""
    if "b" not in mode and caller().split(".")[0] == OURS:
        encoding = encoding or "cp1252"
        if newline is None and any(letter in mode for letter in "wax+"):
            newline = "\r\n"
    return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)


def open_descriptor(path, flags, mode=0o777, **folders):
    if os.path.isdir(path):
        note(f"open\t{path}\ta folder")
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return real.open(path, flags, mode)


def fsync(handle):
    with real_open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as lines:
        flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags"))
    if flags & 3 == os.O_RDONLY:
        note(f"fsync\t{handle}\topen for reading")
        raise OSError(errno.EBADF, "Bad file descriptor")
    os.fsync(handle)


def link(*_, **__):
    raise OSError(errno.EPERM, "no hard links on this file system")


def symlink(*_, **__):
    raise OSError(errno.EPERM, "A required privilege is not held by the client")


class Seen(types.ModuleType):
    """A module as gsvexport sees it: some names are others, and some are absent. What is set is set in the real one."""

    def __init__(self, module, others, absent=()):
        super().__init__(module.__name__)
        object.__setattr__(self, "_seen", (module, others, frozenset(absent)))

    def __getattribute__(self, name):
        if name == "__class__":
            return types.ModuleType
        module, others, absent = object.__getattribute__(self, "_seen")
        if name == "__dict__":  # what pytest's monkeypatch remembers
            return {**{key: value for key, value in vars(module).items() if key not in absent}, **others}
        if name in absent:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return others[name] if name in others else getattr(module, name)

    def __setattr__(self, name, value):
        module, others, _ = object.__getattribute__(self, "_seen")
        if name in others:
            others[name] = value
        else:
            setattr(module, name, value)

    def __delattr__(self, name):
        delattr(object.__getattribute__(self, "_seen")[0], name)


SEEN = {
    "os": Seen(
        os, {"name": "nt", "open": open_descriptor, "fsync": fsync, "link": link, "symlink": symlink}, POSIX_NAMES
    ),
    "sys": Seen(sys, {"platform": "win32"}),
}


def importing(name, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002 - as the built-in names them
    who = ((globals or {}).get("__name__") or "").split(".")[0]
    if who in (OURS, "filelock") and name.split(".")[0] in POSIX_MODULES:
        raise ImportError(f"No module named {name!r}", name=name)
    if who == OURS and name in SEEN:
        return SEEN[name]
    return real_import(name, globals, locals, fromlist, level)


os.replace, os.rename, os.unlink, os.remove, os.rmdir = replace, rename, unlink, unlink, rmdir
shutil._use_fd_functions = False
builtins.open = io.open = open_text
builtins.__import__ = importing
assert "pathlib" in sys.modules
assert "tempfile" in sys.modules  # these use what is set here
