"""Where a repository is: a local folder, or what answers HTTP. Object stores are in `objects`.

A place maps names ("blobs/sha256/ab/…") to files. What is written there appears complete or not at all. Nothing that a
place says is believed: a name is built from checked parts, every read is bounded, and the readers check what they get.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import stat
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote, urlsplit

from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.files import TEMPORARY_PREFIX, atomic_file, disk_errors
from gsvexport.registry.objects import ObjectPlace
from gsvexport.registry.pace import Interrupted, bounded
from gsvexport.system import disk
from gsvexport.untrusted.reading import opened, why

TIMEOUT = 30.0  # seconds without a byte
HEADERS = 60.0  # seconds until an answer has begun, with all of its headers
_SCHEMES = ("http", "https")


class Place(Protocol):
    """Where a repository is. Sizes are in bytes, times in seconds since the epoch by the place's own clock.

    Reading something absent raises `FileNotFoundError`, a broken transfer `Interrupted`, everything else that is wrong
    with the place `EnvironmentProblem`.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def read(self, name: str, limit: int) -> bytes:
        """A small file; more than `limit` bytes raise `ArtifactError`."""

    def stream(self, name: str, offset: int) -> contextlib.AbstractContextManager[tuple[IO[bytes], int]]:
        """A file's bytes from `offset` on, and where they really start: 0 where the place knows no offsets."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""

    def names(self, below: str) -> list[str] | None:
        """The files below a folder, sorted; None where the place cannot tell."""

    def put(self, name: str, data: bytes | IO[bytes]) -> None:
        """Write a file, over what is there."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file if there is none; of several that try at once only one gets True."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def changed(self, name: str) -> float | None:
        """When a file was written; None where there is none."""


def open_place(url: str) -> Place:
    """The place that a user's word means: a folder, http(s)://, or a URL that fsspec knows (s3:// …).

    Raises:
        InputError: no such kind of place.
        EnvironmentProblem: the package that it needs is not installed.
    """
    scheme = urlsplit(url).scheme.lower() if "://" in url else ""
    if scheme in _SCHEMES:
        return WebPlace(url)
    if scheme == "file":
        return FolderPlace(_folder(url))
    if not scheme:
        return FolderPlace(Path(url))
    return ObjectPlace(url)


def _folder(url: str) -> Path:
    """The folder of a file:// URL, also of one with a drive (file:///C:/voices)."""
    host, path = urlsplit(url).netloc, urlsplit(url).path
    if host not in ("", "localhost"):
        raise InputError(f"{url} names the machine {host}, which is not asked", limit="file:///FOLDER, or the folder")
    return Path(urllib.request.url2pathname(path))


class FolderPlace:
    """A folder, on this machine or mounted from another one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.root)

    def read(self, name: str, limit: int) -> bytes:
        """As `Place.read`."""
        with self.stream(name, 0) as (stream, _):
            return bounded(stream, limit, f"{self.name}/{name}")

    @contextlib.contextmanager
    def stream(self, name: str, offset: int) -> Iterator[tuple[IO[bytes], int]]:
        """As `Place.stream`."""
        try:
            stream = opened(self.root / name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(name) from error
        except (OSError, ValueError) as error:
            raise EnvironmentProblem(f"{self.root / name} {why(error)}") from error
        with stream:
            stream.seek(offset)
            yield stream, offset

    def size(self, name: str) -> int | None:
        """As `Place.size`."""
        found = self._stat(name)
        return found.st_size if found else None

    def names(self, below: str) -> list[str]:
        """As `Place.names`, with what is being written under names of its own. Another publisher's folder of such may
        go while it is listed."""
        found = (Path(folder, name) for folder, _, names in os.walk(self.root / below) for name in names)
        return sorted(path.relative_to(self.root).as_posix() for path in found if path.is_file())

    def put(self, name: str, data: bytes | IO[bytes]) -> None:
        """As `Place.put`."""
        with atomic_file(self.root / name, force=True) as work:
            _write(work, data)

    def create(self, name: str, data: bytes) -> bool:
        """As `Place.create`. A file system without hard links gets the file in one write."""
        path = self.root / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, work = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
            try:
                os.chmod(work, path.parent.stat().st_mode & 0o666)  # others read it, too
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(handle)
                try:
                    if disk.WINDOWS:  # where a rename replaces nothing
                        os.rename(work, path)
                    else:
                        os.link(work, path)
                except FileExistsError:
                    raise
                except OSError:  # FAT, and some that are mounted
                    with open(path, "xb", buffering=0) as stream:
                        stream.write(data)
            except FileExistsError:
                return False
            finally:
                disk.remove(Path(work))
        return True

    def remove(self, name: str) -> None:
        """As `Place.remove`."""
        with disk_errors(self.root / name):
            disk.remove(self.root / name)

    def changed(self, name: str) -> float | None:
        """As `Place.changed`."""
        found = self._stat(name)
        return found.st_mtime if found else None

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            found = os.stat(self.root / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise EnvironmentProblem(f"{self.root / name} cannot be read: {error.strerror}") from error
        return found if stat.S_ISREG(found.st_mode) else None


class WebPlace:
    """A repository behind a web server, to pull from. Any server of static files will do."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
            raise InputError(
                f"{parts.scheme}://{parts.hostname or ''}… is no repository's address", limit="http(s)://HOST/PATH"
            )
        self._url = url.rstrip("/")
        self._opener = urllib.request.build_opener(_Redirects(parts.scheme.lower()), _Http(), _Https())

    @property
    def name(self) -> str:
        """The URL."""
        return self._url

    def read(self, name: str, limit: int) -> bytes:
        """As `Place.read`; tried three times."""
        for tries in range(3):
            try:
                with self.stream(name, 0) as (stream, _):
                    return bounded(stream, limit, f"{self.name}/{name}")
            except Interrupted as error:
                reason = error
                time.sleep(0.2 * 4**tries)
        raise EnvironmentProblem(f"{self.name}/{name} cannot be read: {reason}", fix="try again later")

    @contextlib.contextmanager
    def stream(self, name: str, offset: int) -> Iterator[tuple[IO[bytes], int]]:
        """As `Place.stream`."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "gsvexport"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with self._answer(urllib.request.Request(f"{self._url}/{quote(name)}", headers=headers)) as answer:
            start = 0
            if answer.status == http.client.PARTIAL_CONTENT:
                said = answer.headers.get("Content-Range", "")
                if not said.startswith(f"bytes {offset}-"):
                    raise EnvironmentProblem(f"{self.name} answers with another range than asked for", found=said[:80])
                start = offset
            yield answer, start

    def size(self, name: str) -> int | None:
        """As `Place.size`."""
        with self._answer(urllib.request.Request(f"{self._url}/{quote(name)}", method="HEAD")) as answer:
            said = answer.headers.get("Content-Length", "")
            return int(said) if said.isdecimal() else None

    def names(self, below: str) -> None:
        """As `Place.names`: a web server cannot tell."""
        return

    def put(self, name: str, data: bytes | IO[bytes]) -> None:
        """Not over HTTP."""
        raise self._read_only()

    def create(self, name: str, data: bytes) -> bool:
        """Not over HTTP."""
        raise self._read_only()

    def remove(self, name: str) -> None:
        """Not over HTTP."""
        raise self._read_only()

    def changed(self, name: str) -> float | None:
        """Not over HTTP."""
        raise self._read_only()

    def _read_only(self) -> InputError:
        return InputError(
            f"{self.name} can only be pulled from: HTTP has no way to publish that no race can break",
            fix="publish to the folder or the bucket that the server serves",
        )

    @contextlib.contextmanager
    def _answer(self, request: urllib.request.Request) -> Iterator[Any]:
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise FileNotFoundError(request.full_url) from error
            if error.code in (408, 425, 429) or error.code >= 500:
                raise Interrupted(f"HTTP {error.code}") from error
            fix = "it wants credentials, which are not supported: serve it without, or use a bucket"
            raise EnvironmentProblem(
                f"{request.full_url}: HTTP {error.code} {error.reason}", fix=fix if error.code in (401, 403) else None
            ) from error
        except (http.client.HTTPException, urllib.error.URLError, ssl.SSLError, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):  # another try would not help
                named = os.environ.get("SSL_CERT_FILE")
                own = f"SSL_CERT_FILE names {named}" if named else "SSL_CERT_FILE may name those of your own"
                raise EnvironmentProblem(
                    f"the certificate of {self.name} is not trusted here: {reason.verify_message}",
                    fix=f"look at this machine's clock, and whose certificates are trusted: {own}",
                ) from error
            raise Interrupted(str(reason)[:200] or type(error).__name__) from error
        except (
            ValueError,
            OverflowError,
            LookupError,
            AttributeError,
        ) as error:  # what Python's client makes of nonsense
            what = f"{request.full_url} answers with what is no HTTP: {type(error).__name__}: {str(error)[:200]}"
            raise EnvironmentProblem(what, fix="ask who runs the repository") from error


class _Response(http.client.HTTPResponse):
    """An answer in chunks, each of which has a size."""

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise http.client.HTTPException(f"a chunk of {size} bytes")
        return size


class _Timed:
    """A connection whose answer has to begin in time: a header now and then is not enough."""

    response_class = _Response
    _late = False

    def getresponse(self) -> Any:
        """As of any connection; cut off after `HEADERS` seconds."""
        timer = threading.Timer(HEADERS, self._cut)
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
        if self._late:  # what was cut off looks like an end
            raise TimeoutError(f"no answer within {HEADERS:.0f} s")
        return answer

    def _cut(self) -> None:
        self._late = True
        with contextlib.suppress(OSError, AttributeError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # type: ignore[attr-defined]


class _Connection(_Timed, http.client.HTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Timed, http.client.HTTPSConnection):  # type: ignore[misc]
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    _trust: ssl.SSLContext | None = None  # read once, when it is needed: every certificate of the system is in it

    def https_open(self, req: Any) -> Any:
        self._trust = self._trust or ssl.create_default_context()
        return self.do_open(_SecureConnection, req, context=self._trust)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects stay within HTTP, and within HTTPS where that was asked for."""

    def __init__(self, scheme: str) -> None:
        self._allowed = ("https",) if scheme == "https" else _SCHEMES

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in self._allowed:
            raise EnvironmentProblem(f"{req.full_url} redirects to {newurl[:200]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _write(path: Path, data: bytes | IO[bytes]) -> None:
    with open(path, "wb") as out:
        if isinstance(data, bytes):
            out.write(data)
        else:
            shutil.copyfileobj(data, out, 1 << 20)
