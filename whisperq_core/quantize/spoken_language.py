"""Which language a recording is in, where the transcription was told one: it may be the wrong one.

An English-only model, or a multilingual one that is told "English", writes English nonsense for a
German recording.
"""

from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from whisperq_core.errors import ModelError
from whisperq_core.quantize import pipeline
from whisperq_core.quantize.file_transcription import AUTO, TranscriptionConfig
from whisperq_core.speech import decode
from whisperq_core.whisper import model_sources

# Models that can detect a language, the first that is on this machine does.
_DETECTORS = ("base", "small", "tiny", "medium", "large-v3-turbo", "large-v3")
# From this probability on, a reader is told.
_SURE = 0.6


class SpokenLanguage(BaseModel, frozen=True):
    """The most probable language of a recording's first 30 s, by a multilingual model in fp32."""

    language: str
    probability: float
    model: str

    def contradicts(self, config: TranscriptionConfig) -> bool:
        """Whether the configuration most probably transcribes in another language."""
        fixed = fixed_language(config)
        return fixed is not None and fixed != self.language and self.probability >= _SURE


def fixed_language(config: TranscriptionConfig) -> str | None:
    """The language that it transcribes in, whatever is spoken; None where it detects one."""
    if config.model.endswith(".en"):
        return "en"
    return None if config.language == AUTO else config.language


def detector_for(config: TranscriptionConfig) -> str | None:
    """The model that detects the language: the configuration's own, or a multilingual one here."""
    own = config.model if config.recipe is not None and not config.model.endswith(".en") else None
    for name in (own, *_DETECTORS):
        with suppress(ModelError):
            if name is not None and model_sources.find(name).is_here:
                return name
    return None


def detect(recording: Path, model: str, name: str = "") -> SpokenLanguage | None:
    """The language spoken in a file; None where nothing is to be heard or the model cannot tell.

    Raises AudioError for a file that is not usable audio, ModelError where the model is not here.
    """
    from whisperq_core.whisper.transcription import language_probabilities

    samples = decode.load(recording, name)
    if decode.is_silent(samples):
        return None
    probabilities = language_probabilities(pipeline.load_model(model), samples)
    if not probabilities:
        return None
    language, probability = next(iter(probabilities.items()))
    return SpokenLanguage(language=language, probability=probability, model=model)
