"""What is queued when recordings are transcribed, and in which order."""

from collections.abc import Sequence

from pages._recording_settings import Configs
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.serve.recording_store import Recording
from whisperq_core.serve.user_session import UserSession

# So much audio in all is transcribed recipe by recipe, which loads each model once.
_SHORT_S = 600.0

Pair = tuple[Recording, TranscriptionConfig]


def by_turn(configs: Configs) -> Configs:
    """The first recipe, which is the recommended one, comes first; then fp32; then the others.

    Those come last that take a minute or more before they transcribe: quantizing with calibration,
    converting for a runtime.
    """
    quick = [config for config in configs if not _is_slow_to_start(config)]
    slow = [config for config in configs if _is_slow_to_start(config)]
    return [*quick[1:2], *quick[:1], *quick[2:], *slow]


def _is_slow_to_start(config: TranscriptionConfig) -> bool:
    return config.recipe is not None and (config.recipe.calibrates or config.recipe.has_own_runtime)


def in_order(pairs: Sequence[Pair], configs: Configs) -> list[Pair]:
    """Recipe by recipe, which loads each model once; long recordings are finished one by one."""
    turns = by_turn(configs)
    recordings = list(dict.fromkeys(recording.id for recording, _ in pairs))
    is_long = sum(recording.sound.duration_s for recording, _ in pairs) > _SHORT_S

    def place(pair: Pair) -> tuple[int, int]:
        recording, config = recordings.index(pair[0].id), turns.index(pair[1])
        return (recording, config) if is_long else (config, recording)

    return sorted(pairs, key=place)


def transcribe(session: UserSession, pairs: Sequence[Pair], configs: Configs) -> None:
    """Queues what is missing, and how far each recipe is from fp32."""
    fp32 = next((config for config in configs if config.name == "fp32"), None)
    session.transcribe(in_order(pairs, configs), fp32)
