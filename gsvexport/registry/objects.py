"""Repositories on object stores, through fsspec: S3 and its like, Google's, Azure's and whatever else it knows.

The store has to be strongly consistent, as those three are: what was written is read and listed at once. `create` has
to be atomic there (S3: a PUT with If-None-Match); fsspec refuses it where it is not.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from gsvexport.errors import EnvironmentProblem, GsvError, InputError, missing_package
from gsvexport.registry.pace import Interrupted, bounded

_CHUNK = 8 << 20  # bytes; S3 wants parts of at least 5 MiB


class ObjectPlace:
    """A folder of an object store. Credentials and endpoints are what the store's own library is set up with."""

    def __init__(self, url: str) -> None:
        scheme = url.partition("://")[0]
        if "::" in url:
            raise InputError(f"{url} is no repository's address", limit="a folder, http(s)://, s3://, gs://, …")
        try:
            import fsspec
        except ImportError:
            raise missing_package("fsspec", f"a repository on {scheme}://", "registry") from None
        if scheme not in fsspec.available_protocols():
            raise InputError(f"{scheme}:// is no kind of repository", limit="a folder, http(s)://, s3://, gs://, …")
        self.name = url.rstrip("/")
        try:
            # Neither an instance nor listings of before: others write here, too.
            self._fs, root = fsspec.core.url_to_fs(self.name, skip_instance_cache=True, use_listings_cache=False)
        except ImportError as error:
            extra = "s3" if scheme in ("s3", "s3a") else "registry"
            fix = f"pip install 'gsvexport[{extra}]'" if extra == "s3" else None
            raise EnvironmentProblem(f"{scheme}:// cannot be used: {error}", fix=fix) from error
        except ValueError as error:
            raise InputError(f"{self.name} is no repository's address: {error}") from error
        self._root = root.rstrip("/")

    def read(self, name: str, limit: int) -> bytes:
        """As `Place.read`."""
        with self._trouble(name):
            # One request: with several, a file that is replaced between them is an error.
            data = self._fs.cat_file(self._at(name), start=0, end=limit + 1)
        return bounded(io.BytesIO(data), limit, f"{self.name}/{name}")

    @contextlib.contextmanager
    def stream(self, name: str, offset: int) -> Iterator[tuple[IO[bytes], int]]:
        """As `Place.stream`."""
        with self._trouble(name):
            stream = self._fs.open(self._at(name), "rb", block_size=_CHUNK, cache_type="readahead")
        with contextlib.closing(stream):
            stream.seek(offset)
            yield cast(IO[bytes], _Reader(stream, lambda: self._trouble(name))), offset

    def size(self, name: str) -> int | None:
        """As `Place.size`."""
        found = self._info(name)
        return None if found is None else int(found["size"])

    def names(self, below: str) -> list[str]:
        """As `Place.names`."""
        with self._trouble(below):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._at(below))
            except FileNotFoundError:
                return []
        start = len(self._root.lstrip("/")) + 1
        return sorted(path.lstrip("/")[start:] for path in found)

    def put(self, name: str, data: bytes | IO[bytes]) -> None:
        """As `Place.put`: an object appears when its upload is complete."""
        with self._writing(name):
            if isinstance(data, bytes):
                self._fs.pipe_file(self._at(name), data)
                return
            with self._fs.open(self._at(name), "wb", block_size=_CHUNK) as out:
                while chunk := data.read(_CHUNK):
                    out.write(chunk)

    def create(self, name: str, data: bytes) -> bool:
        """As `Place.create`."""
        with self._writing(name):
            try:
                self._fs.pipe_file(self._at(name), data, mode="create")
            except FileExistsError:
                return False
            return True

    def remove(self, name: str) -> None:
        """As `Place.remove`."""
        with self._trouble(name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def changed(self, name: str) -> float | None:
        """As `Place.changed`."""
        if (found := self._info(name)) is None:
            return None
        for key in ("LastModified", "last_modified", "mtime", "updated", "created"):
            if (time := found.get(key)) is not None:
                return float(time.timestamp()) if hasattr(time, "timestamp") else float(time)
        raise EnvironmentProblem(f"{self.name} does not say when {name} was written, so nothing can be collected there")

    def _info(self, name: str) -> dict[str, Any] | None:
        with self._trouble(name):
            self._fs.invalidate_cache()
            try:
                return dict(self._fs.info(self._at(name)))
            except FileNotFoundError:
                return None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            with self._trouble(name):
                yield
        except FileNotFoundError as error:
            raise EnvironmentProblem(
                f"{self.name} cannot be written: there is no such bucket", fix="make it first"
            ) from error

    @contextlib.contextmanager
    def _trouble(self, name: str) -> Iterator[None]:
        """What a store's library raises, whatever its kind, as an error of ours; a missing file stays one."""
        try:
            yield
        except (GsvError, FileNotFoundError, Interrupted):
            raise
        except (ConnectionError, TimeoutError) as error:
            raise Interrupted(str(error) or type(error).__name__) from error
        except Exception as error:
            raise EnvironmentProblem(
                f"{self.name}: {name} cannot be read or written: {type(error).__name__}: {error}"[:800],
                fix="check the address and the credentials that the store's own library uses",
            ) from error


class _Reader:
    """An object being read; what goes wrong becomes an error of ours, and what its reader does with it does not."""

    def __init__(self, stream: IO[bytes], trouble: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._stream, self._trouble = stream, trouble

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        with self._trouble():
            return self._stream.read(size)
