"""Folders of small files that are written whole: on this machine, or wherever fsspec reaches.

A place is a path, or a URL such as s3://bucket/whisperq, gs://…, sftp://host/… whose driver (s3fs,
gcsfs, paramiko) is installed.
"""

import os
import shutil
import time
import uuid
from contextlib import suppress
from errno import EFBIG, EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from whisperq_core.errors import StoreError

# A file's time and size, or its digest: whatever differs when its content does.
FileStamp = tuple[Any, ...]
# Object stores show an object when it is there as a whole; elsewhere a file grows under its name.
_ATOMIC_PROTOCOLS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
_STAMP_FIELDS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
# No record is as large; what is, is not read.
MAX_BYTES = 500 * 10**6
# Nobody takes as long to write a file.
_STALE_AFTER_S = 3600.0
# A folder far away is not listed again within this time, unless this process wrote to it.
_LISTING_TTL_S = 1.0


def open_folder(place: Path | str) -> "Folder":
    """The folder at a path or a URL. Raises StoreError for a URL that nothing here can open."""
    return RemoteFolder(str(place)) if "://" in str(place) else Folder(Path(place))


class Folder:
    """A folder of this machine's file system, which need not exist yet."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def subfolder(self, *names: str) -> "Folder":
        """A folder in this one."""
        return Folder(self.path.joinpath(*names))

    def json_names(self) -> list[str]:
        """Of its .json files; none where there is no folder."""
        with suppress(OSError), os.scandir(self.path) as entries:
            return [entry.name for entry in entries if entry.name.endswith(".json")]
        return []

    def file_stamps(self) -> dict[str, FileStamp]:
        """Its .json files, each with its stamp; none where there is no folder."""
        found = {}
        with suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    found[entry.name] = 0, 0
                    # One that cannot be looked at is named when it cannot be read.
                    with suppress(OSError):
                        stat = entry.stat()
                        found[entry.name] = stat.st_mtime_ns, stat.st_size
        return found

    def file_stamp(self, name: str) -> FileStamp | None:
        """A file's stamp; None where there is none, or it cannot be looked at."""
        with suppress(OSError):
            stat = (self.path / name).stat()
            return stat.st_mtime_ns, stat.st_size
        return None

    def read(self, name: str) -> bytes:
        """A file's content; OSError where it cannot be read, or is none of ours."""
        path = self.path / name
        stat = path.stat()
        # A pipe would be waited for, for ever; a folder fails by itself.
        if not (S_ISREG(stat.st_mode) or S_ISDIR(stat.st_mode)):
            raise OSError(EINVAL, "it is not a file")
        if stat.st_size > MAX_BYTES:
            raise OSError(EFBIG, f"it has more than {MAX_BYTES // 10**6} MB")
        return path.read_bytes()

    def write(self, name: str, text: str) -> None:
        """Writes a file whole or not at all; raises StoreError where it cannot be written."""
        write_atomically(self.path / name, text)

    def remove_stale_temporaries(self) -> None:
        """Removes what writers left that were killed; what is being written stays."""
        for path in self.path.glob(".*.tmp"):
            with suppress(OSError):
                if abs(time.time() - path.stat().st_mtime) > _STALE_AFTER_S:
                    path.unlink()

    def remove(self) -> None:
        """Removes the folder with all that is in it, if it can."""
        shutil.rmtree(self.path, ignore_errors=True)


class RemoteFolder(Folder):
    """A folder at a URL."""

    def __init__(self, url: str, files: Any = None, path: str = ""):
        self.url, self._listed = url, (float("-inf"), {})
        if files is not None:
            self.files, self.path = files, path
            return
        import fsspec

        try:
            # What others write has to be seen.
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
        """A folder in this one."""
        path, url = "/".join((self.path, *names)), "/".join((self.url.rstrip("/"), *names))
        return RemoteFolder(url, self.files, path)

    def json_names(self) -> list[str]:
        """Of its .json files; see `file_stamps`."""
        return list(self.file_stamps())

    def file_stamps(self) -> dict[str, FileStamp]:
        """Its .json files, each with its stamp; none where there is no folder.

        Raises StoreError where the place cannot be reached: that is not the same as empty.
        """
        at, found = self._listed
        if time.monotonic() - at > _LISTING_TTL_S:
            try:
                self.files.invalidate_cache(self.path)
                listed = self.files.ls(self.path, detail=True)
            except FileNotFoundError:
                listed = []
            except Exception as error:  # each driver has its own
                raise StoreError(f"{self.url} cannot be listed ({_first_line(error)}).") from error
            found = {
                entry["name"].rpartition("/")[2]: (
                    entry.get("size"),
                    *(str(entry[key]) for key in _STAMP_FIELDS if entry.get(key) is not None),
                )
                for entry in listed
                if entry["type"] == "file"
            }
            self._listed = time.monotonic(), found
        return {name: stamp for name, stamp in found.items() if name.endswith(".json")}

    def file_stamp(self, name: str) -> FileStamp | None:
        """A file's stamp; None where there is none."""
        return self.file_stamps().get(name)

    def read(self, name: str) -> bytes:
        """A file's content; OSError where it cannot be read."""
        try:
            return self.files.cat_file(f"{self.path}/{name}")
        except OSError:
            raise
        except Exception as error:
            raise OSError(0, _first_line(error)) from error

    def write(self, name: str, text: str) -> None:
        """Writes a file whole or not at all; raises StoreError where it cannot be written."""
        path, kinds = f"{self.path}/{name}", self.files.protocol
        whole = _ATOMIC_PROTOCOLS & set((kinds,) if isinstance(kinds, str) else kinds)
        first = path if whole else f"{self.path}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
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
        self._listed = float("-inf"), {}

    def remove_stale_temporaries(self) -> None:
        """Nothing: whose they are and how old cannot be told everywhere."""

    def remove(self) -> None:
        """Removes the folder with all that is in it, if it can."""
        with suppress(Exception):
            self.files.rm(self.path, recursive=True)
        self._listed = float("-inf"), {}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


def write_atomically(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises StoreError where it cannot be written."""
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
