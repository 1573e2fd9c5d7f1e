"""WhisperQ: quantize Whisper, measure what it costs, and choose.

import whisperq_core as wq

model = wq.quantize("base", "hqq-int4-g64")
print(model.transcribe("call.mp3").text)

The public API is what is listed in `__all__`; it is imported when first used (PEP 562), so that
`import whisperq_core` costs nothing. Everything else may change between versions.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whisperq_core.api import (
        Recommendation,
        Results,
        advise,
        evaluate,
        load,
        merge,
        quantize,
        recipes,
        results,
    )
    from whisperq_core.quantize.recipes import Recipe

__all__ = [
    "Recipe",
    "Recommendation",
    "Results",
    "advise",
    "evaluate",
    "load",
    "merge",
    "quantize",
    "recipes",
    "results",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from whisperq_core import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
