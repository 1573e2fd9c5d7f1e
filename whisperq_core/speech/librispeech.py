"""LibriSpeech as OpenSLR packs it: the layout of a split, and the download.

https://www.openslr.org/12: speaker/chapter/speaker-chapter-number.flac, with the references of a
chapter in speaker-chapter.trans.txt, one `id TEXT` a line.
"""

import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from whisperq_core import settings
from whisperq_core.errors import EvalSetError
from whisperq_core.speech.manifests import Row, read_text

CREDIT = "LibriSpeech, Panayotov et al. 2015, OpenSLR 12, CC BY 4.0"


@dataclass(frozen=True)
class Archive:
    """A split to download: its address, its MD5, and how many utterances it must contain."""

    url: str
    md5: str
    utterances: int


SPLITS = {
    "test-clean": Archive(
        "https://www.openslr.org/resources/12/test-clean.tar.gz",
        "32fa31d27d2e1cad72775fee3f4849a9",
        2620,
    ),
    "test-other": Archive(
        "https://www.openslr.org/resources/12/test-other.tar.gz",
        "fb5a50374b501bb3bac4815ee91d3135",
        2939,
    ),
}


def is_split(folder: Path) -> bool:
    """Whether a folder has transcripts where a split has them."""
    return any(folder.glob("*/*/*.trans.txt"))


def transcripts(folder: Path) -> list[Path]:
    """The chapters' transcripts, in a split or in any folder above or below one."""
    return sorted(folder.rglob("*.trans.txt"))


def rows(folder: Path) -> list[Row]:
    """The utterances of unpacked splits, in order of speaker, chapter and number.

    folder: a split, one of its speakers or chapters, or a folder of several splits.

    Raises:
        EvalSetError: no transcripts, a line without text, or audio without transcript. Whether the
            audio of each line exists is not checked.
    """
    rows = []
    for transcript in transcripts(folder):
        for number, line in enumerate(read_text(transcript).splitlines(), 1):
            id, _, reference = line.strip().partition(" ")
            where = f"{transcript.name}, line {number}"
            path = transcript.parent / f"{id}.flac"
            if not reference or not path.resolve().is_relative_to(folder.resolve()):
                raise EvalSetError(f"{where} is not an id and a text. Unpack the set again.")
            speaker = id.partition("-")[0]
            rows.append(Row(where, path, id, reference, "en", speaker))
    expected = {row.audio for row in rows}
    extra = next((p for p in sorted(folder.rglob("*.flac")) if p not in expected), None)
    if extra:
        raise EvalSetError(f"{extra.name} has no transcript next to it. Unpack the set again.")
    if not rows:
        raise EvalSetError(
            f"{folder} is not a LibriSpeech split. Choose the folder that contains "
            "one numbered folder for each speaker, such as LibriSpeech/test-clean."
        )
    return rows


def data_folder() -> Path:
    """Where downloaded speech is put: in the cache."""
    return settings.current().cache / "speech"


def split_folder(split: str) -> Path | None:
    """The downloaded split, in the cache or in the one that WhisperQ came with; None if neither."""
    places = (data_folder(), settings.SHIPPED_CACHE / "speech")
    folders = (place / "LibriSpeech" / split for place in places)
    return next((folder for folder in folders if folder.is_dir()), None)


def download(split: str, folder: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Download a split to `folder`/LibriSpeech/`split`, if it is not there, and return that.

    progress: called with the bytes done and the bytes in total (0 if unknown); what it raises stops
        the download.

    Raises:
        EvalSetError: unknown split, no connection, wrong checksum, or no space.
    """
    if split not in SPLITS:
        raise EvalSetError(f"{split} cannot be downloaded. Choose {' or '.join(SPLITS)}.")
    target = folder / "LibriSpeech" / split
    if not target.exists():
        packed = _fetch(split, folder, progress)
        _unpack(packed, split, folder)
        packed.unlink()
    return target


def _fetch(split: str, folder: Path, progress: Callable[[int, int], None] | None) -> Path:
    """The downloaded archive, whose checksum is right."""
    # Slow to import, and this is rarely called.
    import pooch
    import requests

    archive = SPLITS[split]
    by_hand = f"download {archive.url} in a browser and unpack it in {folder}"
    try:
        packed = pooch.retrieve(
            archive.url,
            known_hash=f"md5:{archive.md5}",
            fname=f"{split}.tar.gz",
            path=folder,
            downloader=pooch.HTTPDownloader(
                progressbar=_Progress(progress) if progress else False, chunk_size=1 << 20
            ),
        )
    except requests.RequestException as error:
        raise EvalSetError(
            f"{split} could not be downloaded. Check the connection and retry, or {by_hand}."
        ) from error
    except ValueError as error:
        raise EvalSetError(
            f"The download of {split} has the wrong checksum and was discarded. "
            f"Retry, or {by_hand}."
        ) from error
    except OSError as error:
        raise _no_space(split, folder) from error
    return Path(packed)


def _unpack(packed: Path, split: str, folder: Path) -> None:
    """Unpack aside, then rename, so that half a split is never taken for a whole one."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as aside:
            with tarfile.open(packed) as tar:
                tar.extractall(aside, filter="data")
            (folder / "LibriSpeech").mkdir(exist_ok=True)
            (Path(aside) / "LibriSpeech" / split).rename(folder / "LibriSpeech" / split)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _no_space(split, folder) from error


def _no_space(split: str, folder: Path) -> EvalSetError:
    return EvalSetError(
        f"{split} could not be stored in {folder}. Check that the disk has 1 GB free and that "
        "the folder can be written to."
    )


class _Progress:
    """The interface of a progress bar as pooch calls it."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report, self.done, self.total = report, 0, 0

    def update(self, size_bytes: int) -> None:
        # pooch counts its last chunk as full
        done = self.done + size_bytes
        self.done = min(done, self.total) if self.total else done
        self.report(self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
