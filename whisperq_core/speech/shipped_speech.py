"""The rows of the manifest of the speech that comes with WhisperQ."""

import json
from functools import lru_cache
from typing import Any

from whisperq_core.errors import EvalSetError
from whisperq_core.settings import PROJECT

SPEECH = PROJECT / "speech"


@lru_cache(maxsize=1)
def rows() -> tuple[dict[str, Any], ...]:
    """The manifest's lines, one a recording; raises EvalSetError where it is missing."""
    try:
        with (SPEECH / "manifest.jsonl").open(encoding="utf-8") as lines:
            return tuple(json.loads(line) for line in lines)
    except (OSError, ValueError) as error:
        raise EvalSetError(
            "The speech that comes with WhisperQ is missing or altered. Install WhisperQ again."
        ) from error
