"""Folders of small JSON files that are written atomically, on this machine or on remote storage.

A location is a path, or a URL that fsspec opens, such as s3://bucket/whisperq, gs://…,
sftp://host/…, where its driver (s3fs, gcsfs, paramiko) is installed.

Files are read by `read_file` and `read_record`, which neither wait for a pipe nor let a small file
take much memory. What reads a file and writes it again does so in `exclusive`.
"""

import fcntl
import json
import os
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EFBIG, EINVAL, EISDIR
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError

from whisperq_core.errors import StoreError

# What differs when a file's content does: its time and size, or a digest.
FileStamp = tuple[Any, ...]
# Object stores, which list an object only once it is complete; elsewhere files are renamed.
_ATOMIC_PROTOCOLS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
_STAMP_FIELDS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
# Larger files are not read: no record is as large.
MAX_BYTES = 100 * 10**6
# JSON with more values for its size is no record. Each value that a model refuses takes about a
# kilobyte, so that megabytes of them would fill memory. Records have an object or a list for 40
# bytes or more, and a comma for 12 or more.
_BYTES_PER_CONTAINER, _BYTES_PER_COMMA = 24, 8
_MOST_MEMBERS = 10_000  # of one object
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
# Above this size, the members of each object are counted, too.
_LARGE_JSON_BYTES = 10**6
# How often `write_atomically` tries.
_ATTEMPTS = 5
# How long `exclusive` waits, and how often it looks.
_LOCK_TIMEOUT_S, _LOCK_POLL_S = 60.0, 0.02
# Age in seconds at which a temporary file was left by a killed writer.
_STALE_AFTER_S = 3600.0
# Seconds for which the listing of a remote folder is reused, unless this process writes to it.
_LISTING_TTL_S = 1.0


def open_folder(location: Path | str) -> "Folder":
    """The folder at a path or a URL. Raises StoreError for a URL that no installed driver opens."""
    return RemoteFolder(str(location)) if "://" in str(location) else LocalFolder(location)


def clean_path(text: str | Path) -> Path:
    """A path as a user types or pastes it; ~ is home.

    Where nothing has the name as it is typed, quotes and spaces around it are dropped, and a
    file:// address is the path that it names. What is still not there is read as a name with
    escapes (%20 of a browser, "\\ " of a shell) or with a Windows path's separators, if something
    has that name.
    """
    if isinstance(text, Path):
        return _expanded(text)
    if _exists(path := _expanded(Path(text))):
        return path
    typed = text.strip(_AROUND_A_PATH)
    if address := _FILE_ADDRESS.match(typed):
        return Path(unquote(typed[address.end() :]))
    path = _expanded(Path(typed))
    if _exists(path):
        return path
    readings = (unquote(typed), re.sub(r"\\(.)", r"\1", typed), typed.replace("\\", "/"))
    others = (_expanded(Path(reading)) for reading in readings if reading != typed)
    return next(filter(_exists, others), path)


# White space, quotes of all kinds, and marks without a width, which come with copied text.
_AROUND_A_PATH = (
    " \t\r\n\v\f\u00a0\"'`“”„‟‘’‚‛«»‹›<>\u200b\u200e\u200f\u202a\u202c\u2066\u2069\ufeff"
)
_FILE_ADDRESS = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~ of a user that does not exist
        return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name; one with a null character
        return False


class Folder(ABC):
    """A folder of .json files, which need not exist yet; `str` is its path or URL."""

    @abstractmethod
    def subfolder(self, *names: str) -> "Folder":
        """A folder in this one."""

    @abstractmethod
    def json_names(self) -> list[str]:
        """Names of its .json files; none where there is no folder."""

    @abstractmethod
    def file_stamps(self) -> dict[str, FileStamp]:
        """Stamps of its .json files by name; none where there is no folder."""

    @abstractmethod
    def file_stamp(self, name: str) -> FileStamp | None:
        """A file's stamp; None where there is no such file, or its stamp cannot be read."""

    @abstractmethod
    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """A file's content; OSError where it cannot be read, or has more than MAX_BYTES."""

    @abstractmethod
    def write(self, name: str, text: str) -> None:
        """Writes a file atomically; raises StoreError where it cannot be written."""

    @abstractmethod
    def remove_stale_temporaries(self) -> None:
        """Removes temporary files of killed writers, where their age can be told."""

    @abstractmethod
    def remove(self) -> None:
        """Removes the folder with everything in it, if it can."""


class LocalFolder(Folder):
    """A folder of this machine's file system."""

    def __init__(self, path: Path | str):
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def subfolder(self, *names: str) -> "LocalFolder":
        """See `Folder`."""
        return LocalFolder(self.path.joinpath(*names))

    def json_names(self) -> list[str]:
        """See `Folder`."""
        with suppress(OSError), os.scandir(self.path) as entries:
            return [entry.name for entry in entries if entry.name.endswith(".json")]
        return []

    def file_stamps(self) -> dict[str, FileStamp]:
        """See `Folder`."""
        stamps: dict[str, FileStamp] = {}
        with suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    # One without a stamp is listed too: reading it says why it cannot be read.
                    stamps[entry.name] = 0, 0
                    with suppress(OSError):
                        stat = entry.stat()
                        stamps[entry.name] = stat.st_mtime_ns, stat.st_size
        return stamps

    def file_stamp(self, name: str) -> FileStamp | None:
        """See `Folder`."""
        with suppress(OSError):
            stat = (self.path / name).stat()
            return stat.st_mtime_ns, stat.st_size
        return None

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """See `Folder`."""
        return read_file(self.path / name, max_bytes)

    def write(self, name: str, text: str) -> None:
        """See `Folder`."""
        write_atomically(self.path / name, text)

    def remove_stale_temporaries(self) -> None:
        """See `Folder`."""
        for path in self.path.glob(".*.tmp"):
            with suppress(OSError):
                if abs(time.time() - path.stat().st_mtime) > _STALE_AFTER_S:
                    path.unlink()

    def remove(self) -> None:
        """Removes its files; what another process is just writing stays, and with it the folder."""
        for name in self.json_names():
            with suppress(OSError):
                (self.path / name).unlink()
        self.remove_stale_temporaries()
        with suppress(OSError):
            self.path.rmdir()


class RemoteFolder(Folder):
    """A folder at a URL. files: its fsspec file system, where the caller has it; path: in that."""

    def __init__(self, url: str, files: Any = None, path: str = ""):
        self.url = url
        self._listing: tuple[float, dict[str, FileStamp]] = float("-inf"), {}
        if files is not None:
            self.files, self.path = files, path
            return
        import fsspec

        try:
            # No cache: other machines write to it, too.
            files, path = fsspec.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError, OSError) as error:
            raise StoreError(
                f"{url} cannot be opened: {error}. Use a folder, or install the driver"
                " (for s3://: pip install s3fs)."
            ) from error
        self.files, self.path = files, path.rstrip("/")

    def __str__(self) -> str:
        return self.url

    def subfolder(self, *names: str) -> "RemoteFolder":
        """See `Folder`."""
        path, url = "/".join((self.path, *names)), "/".join((self.url.rstrip("/"), *names))
        return RemoteFolder(url, self.files, path)

    def json_names(self) -> list[str]:
        """See `Folder`."""
        return list(self.file_stamps())

    def file_stamps(self) -> dict[str, FileStamp]:
        """Stamps of its .json files by name; none where there is no folder.

        Raises StoreError where the storage cannot be reached, which is not the same as empty.
        """
        listed_at, stamps = self._listing
        if time.monotonic() - listed_at > _LISTING_TTL_S:
            try:
                self.files.invalidate_cache(self.path)
                listed = self.files.ls(self.path, detail=True)
            except FileNotFoundError:
                listed = []
            except Exception as error:  # each driver has its own
                raise StoreError(f"{self.url} cannot be listed ({_first_line(error)}).") from error
            stamps = {
                entry["name"].rpartition("/")[2]: (
                    entry.get("size"),
                    *(str(entry[key]) for key in _STAMP_FIELDS if entry.get(key) is not None),
                )
                for entry in listed
                if entry["type"] == "file"
            }
            self._listing = time.monotonic(), stamps
        return {name: stamp for name, stamp in stamps.items() if name.endswith(".json")}

    def file_stamp(self, name: str) -> FileStamp | None:
        """See `Folder`."""
        return self.file_stamps().get(name)

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """See `Folder`."""
        most = MAX_BYTES if max_bytes is None else max_bytes
        path, stamp = f"{self.path}/{name}", self.file_stamp(name)
        size = stamp[0] if stamp else None
        try:
            if size is None:  # as on a web server, which does not list sizes
                content = self._read_stream(path, most + 1)
            else:
                content = b"" if size > most else self.files.cat_file(path)
        except OSError:
            raise
        except Exception as error:
            raise OSError(0, _first_line(error)) from error
        if max(size or 0, len(content)) > most:
            raise _too_large(most)
        return content

    def _read_stream(self, path: str, most: int) -> bytes:
        """The first `most` bytes of a file."""
        content = bytearray()
        with self.files.open(path, "rb", block_size=0) as file:
            while block := file.read(most - len(content)):
                content += block
        return bytes(content)

    def write(self, name: str, text: str) -> None:
        """See `Folder`."""
        path, protocols = f"{self.path}/{name}", self.files.protocol
        protocols = {protocols} if isinstance(protocols, str) else set(protocols)
        is_atomic = bool(_ATOMIC_PROTOCOLS & protocols)
        first = path if is_atomic else f"{self.path}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            self.files.makedirs(self.path, exist_ok=True)
            self.files.pipe_file(first, text.encode())
            if first != path:
                self.files.mv(first, path)
        except Exception as error:
            raise StoreError(
                f"The result could not be written to {self.url} ({_first_line(error)}). Check the"
                " address and your rights to write there."
            ) from error
        self._listing = float("-inf"), {}

    def remove_stale_temporaries(self) -> None:
        """Does nothing: not every file system reports a file's age."""

    def remove(self) -> None:
        """See `Folder`."""
        with suppress(Exception):
            self.files.rm(self.path, recursive=True)
        self._listing = float("-inf"), {}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


def read_file(path: Path, max_bytes: int | None = None) -> bytes:
    """A file's content; by default at most MAX_BYTES.

    OSError where it is no file, as a pipe or a device is none, is larger or cannot be read.
    """
    most = MAX_BYTES if max_bytes is None else max_bytes
    # Without waiting, as opening a pipe would.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        stat = os.fstat(descriptor)
        if S_ISDIR(stat.st_mode):
            raise OSError(EISDIR, "it is a folder")
        if not S_ISREG(stat.st_mode):
            raise OSError(EINVAL, "it is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = b"" if stat.st_size > most else file.read(most + 1)
        if stat.st_size > most or len(content) > most:
            raise _too_large(most)
        return content
    finally:
        os.close(descriptor)


def _too_large(most: int) -> OSError:
    return OSError(EFBIG, f"it has more than {most / 10**6:g} MB")


Record = TypeVar("Record", bound=BaseModel)


def read_record(kind: type[Record], path: Path, max_bytes: int) -> Record | None:
    """The record in a JSON file; None where there is none, or it is damaged or too large."""
    try:
        content = read_file(path, max_bytes)
        check_json(content)
        return kind.model_validate_json(content)
    except (OSError, ValueError, ValidationError, RecursionError):
        return None


def check_json(content: bytes) -> None:
    """Raises ValueError for JSON that would take far more memory than its size. Fast, and rough."""
    # Texts may have as many commas as they like, but few files make it necessary to leave them out.
    if _has_too_many_values(content) and _has_too_many_values(_STRING.sub(b'""', content)):
        raise ValueError("It has far more values than a record.")
    if len(content) > _LARGE_JSON_BYTES:
        try:
            json.loads(content, object_pairs_hook=_count_members)
        except RecursionError as error:
            raise ValueError("It is nested too deeply.") from error


def _has_too_many_values(content: bytes) -> bool:
    containers, size = content.count(b"{") + content.count(b"["), len(content)
    return (
        containers > 1000 + size // _BYTES_PER_CONTAINER
        or content.count(b",") > 2000 + size // _BYTES_PER_COMMA
    )


def _count_members(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > _MOST_MEMBERS:
        raise ValueError("It has an object with far more members than a record.")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """A block that only one thread of all processes is in at a time, for one folder.

    The folder need not exist: a file next to it is locked (flock), until the block or the process
    ends. Not reentrant. Raises StoreError where it cannot be locked within a minute.
    """
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(
            f"{folder} could not be changed ({error.strerror or error}). Free some space or set"
            " WHISPERQ_CACHE to a folder that can be written."
        ) from error
    try:
        _wait_for_lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"Another process has been changing {folder} for a minute. Try again later."
                ) from error
            time.sleep(_LOCK_POLL_S)
        except OSError as error:
            raise StoreError(
                f"{folder} is on a file system without locks ({error.strerror}). Set"
                " WHISPERQ_CACHE to another folder."
            ) from error


def make_private(folder: Path) -> None:
    """Makes the folder, if it is not there, and takes all rights in it from other users.

    OSError where it cannot be made. One that belongs to another user is left as it is.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stat = folder.stat()
    if stat.st_mode & 0o077 and stat.st_uid == os.geteuid():
        folder.chmod(0o700)


def write_atomically(path: Path, text: str) -> None:
    """Writes a file atomically; raises StoreError where it cannot be written."""
    # Between making the folder and the file in it, another process may remove the empty folder.
    try:
        for _ in range(_ATTEMPTS - 1):
            with suppress(FileNotFoundError):
                _write(path, text)
                return
        _write(path, text)
    except OSError as error:
        raise StoreError(
            f"The result could not be written to {path.parent} ({error.strerror or error})."
            " Free some space or set WHISPERQ_CACHE to a folder that can be written."
        ) from error


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
