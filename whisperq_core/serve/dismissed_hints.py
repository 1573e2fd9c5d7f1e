"""Hints that a user has put away, for good on this machine: an empty file each, below the cache.

cache/seen/<name>
"""

from pathlib import Path

from whisperq_core.errors import StoreError
from whisperq_core.file_storage import write_atomically

_FOLDER = "seen"


def is_dismissed(root: Path, name: str) -> bool:
    """Whether somebody has put the hint of that name away."""
    return (root / _FOLDER / name).exists()


def dismiss(root: Path, name: str) -> bool:
    """Puts the hint away; False where the folder cannot be written, and it will come back."""
    try:
        write_atomically(root / _FOLDER / name, "")
    except StoreError:
        return False
    return True
