"""How much one user may store: recordings, with their copies and transcripts, and own sets."""

import os
from contextlib import suppress
from pathlib import Path

# Of one user, in bytes.
MAX_BYTES = 10_000_000_000
RECORDINGS, SETS = "recordings", "sets"


def free_bytes(root: Path) -> int:
    """What is left to the user whose data are in a folder; negative where there is too much."""
    return MAX_BYTES - sum(_folder_bytes(root / name) for name in (RECORDINGS, SETS))


def refusal(name: str) -> str:
    """Why something of that name is not stored, and what to do."""
    return (
        f"{name} is not stored: your recordings and sets may take up to {MAX_BYTES / 1e9:.0f} GB."
        " Delete some and try again."
    )


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted meanwhile
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118
    return total
