"""Folders of small JSON files that are written atomically, on this machine or on remote storage.

A location is a path, or a URL that fsspec opens, such as s3://bucket/whisperq, gs://…,
sftp://host/…, where its driver (s3fs, gcsfs, paramiko) is installed.
"""

import os
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress
from errno import EFBIG, EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from whisperq_core.errors import StoreError

# What differs when a file's content does: its time and size, or a digest.
FileStamp = tuple[Any, ...]
# Object stores, which list an object only once it is complete; elsewhere files are renamed.
_ATOMIC_PROTOCOLS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
_STAMP_FIELDS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
# Larger files are not read: no record is as large.
MAX_BYTES = 500 * 10**6
# Age in seconds at which a temporary file was left by a killed writer.
_STALE_AFTER_S = 3600.0
# Seconds for which the listing of a remote folder is reused, unless this process writes to it.
_LISTING_TTL_S = 1.0


def open_folder(location: Path | str) -> "Folder":
    """The folder at a path or a URL. Raises StoreError for a URL that no installed driver opens."""
    return RemoteFolder(str(location)) if "://" in str(location) else LocalFolder(location)


def clean_path(text: str | Path) -> Path:
    """A path as a user types or pastes it: quotes and spaces around it are dropped, ~ is home."""
    path = Path(text.strip().strip("\"'").strip()) if isinstance(text, str) else text
    try:
        return path.expanduser()
    except RuntimeError:  # ~ of a user that does not exist
        return path


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
    def read(self, name: str) -> bytes:
        """A file's content; OSError where it cannot be read."""

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

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        path = self.path / name
        stat = path.stat()
        # Reading a pipe would block for ever; reading a folder fails by itself.
        if not (S_ISREG(stat.st_mode) or S_ISDIR(stat.st_mode)):
            raise OSError(EINVAL, "it is not a file")
        if stat.st_size > MAX_BYTES:
            raise OSError(EFBIG, f"it has more than {MAX_BYTES // 10**6} MB")
        return path.read_bytes()

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
        """See `Folder`."""
        shutil.rmtree(self.path, ignore_errors=True)


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

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        try:
            content: bytes = self.files.cat_file(f"{self.path}/{name}")
            return content
        except OSError:
            raise
        except Exception as error:
            raise OSError(0, _first_line(error)) from error

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


def write_atomically(path: Path, text: str) -> None:
    """Writes a file atomically; raises StoreError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"The result could not be written to {path.parent} ({error.strerror or error})."
            " Free some space or set WHISPERQ_CACHE to a folder that can be written."
        ) from error
