"""A recording in, a transcript out: decode, quantize or load, transcribe, time its words."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel

from whisperq_core import machine
from whisperq_core.errors import RecipeUnsupported
from whisperq_core.quantize import backends, model_export, pipeline
from whisperq_core.quantize.pipeline import PIPELINE_VERSION
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech import decode
from whisperq_core.whisper.protocols import STUDY, Protocol
from whisperq_core.whisper.runtime import Segment
from whisperq_core.whisper.transcription import detect_language
from whisperq_core.whisper.word_timestamps import TimedWord, timed_words

AUTO = "auto"


@dataclass(frozen=True)
class TranscriptionConfig:
    """What is to transcribe a recording, and how.

    recipe None: model is the folder of an exported model, which has a recipe and a device.
    """

    model: str
    recipe: Recipe | None
    language: str = AUTO
    task: str = "transcribe"
    device: str = "cpu"

    @property
    def name(self) -> str:
        """The recipe's name, or the exported folder's."""
        return self.recipe.name if self.recipe else f"{Path(self.model).name}, exported"

    @property
    def key(self) -> str:
        """16 hex digits that change with everything that can change what is heard.

        Raises ExportError for a folder that is no exported model.
        """
        what = self.recipe.axes() if self.recipe else model_export.digest(self.model)
        fields = [self.model, what, self.language, self.task, self.device, PIPELINE_VERSION]
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Transcription(BaseModel, frozen=True):
    """What one recipe heard in one recording.

    language: as chosen, or as detected where `detected`. words: with their times, from the fp32
    model's attention. rtf is of this single pass; neither loading nor the words' times are in it.
    """

    text: str
    words: tuple[TimedWord, ...]
    language: str
    detected: bool
    audio_s: float
    wall_s: float
    weights_bytes: int
    fp32_bytes: int
    silent: bool
    looped: bool

    @property
    def rtf(self) -> float:
        """Generation time over audio duration."""
        return self.wall_s / self.audio_s


@lru_cache(maxsize=1)
def _prepared(model_name: str, recipe: Recipe | None, device: str, threads: int, stamp: str):
    """The last quantized model stays in memory for the next recording.

    stamp: the digest of an exported model, whose folder may be written anew.
    """
    import torch

    torch.set_num_threads(threads)
    if recipe is None:
        made = model_export.load(model_name)
        return made.model, made.quantized, made.manifest.fp32_bytes
    if recipe.calibration == "evaluation-10%":
        raise RecipeUnsupported(
            f"{recipe.name} is calibrated on evaluation data, and a recording has none."
            " Choose the variant calibrated on the dev-clean excerpt."
        )
    model = pipeline.load_model(model_name)
    quantized = pipeline.quantize_model(model, recipe, None, device, STUDY)
    return model, quantized, backends.serialized_bytes(model.torch_model)


def transcribe_file(
    recording: Path, listener: TranscriptionConfig, name: str = "", threads: int = 0
) -> Transcription:
    """Transcribes one file. name: what messages call it; threads 0 is all cores.

    An exported model detects the language itself.
    Raises AudioError for what is not usable audio, RecipeUnsupported or LibraryMissing for a recipe
    that cannot run here, ModelUnavailable for weights that cannot be had, ExportError for an
    exported model that cannot be loaded.
    """
    recipe, device, language = listener.recipe, listener.device, listener.language
    samples = decode.load(recording, name)
    if recipe is not None:
        backends.require(recipe, device)
    stamp = "" if recipe else model_export.digest(listener.model)
    threads = threads or machine.default_threads()
    model, quantized, fp32_bytes = _prepared(listener.model, recipe, device, threads, stamp)
    detected = language == AUTO
    if detected:
        language = detect_language(model, samples)
    runtime = pipeline.runtime_of(model, quantized)
    runtime.warm_up([samples[: decode.SAMPLE_RATE]])
    protocol = Protocol("recording", batch_size=1, task=listener.task)
    found = runtime.transcribe([samples], [language], protocol)
    text, length_s = found.texts[0], decode.duration_s(samples)
    segments = found.segments or (Segment(0.0, length_s, text),)
    return Transcription(
        text=text,
        words=timed_words(model, samples, segments, language, listener.task),
        language=language,
        detected=detected,
        audio_s=length_s,
        wall_s=found.wall_s,
        weights_bytes=quantized.weights_bytes,
        fp32_bytes=fp32_bytes,
        silent=decode.is_silent(samples),
        looped=error_rates.is_looped(text),
    )
