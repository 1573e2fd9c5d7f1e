"""A quantized Whisper model as one object: quantize, transcribe, save and load.

model = quantize("base", "hqq-int4-g64")
model.transcribe("call.mp3").text
model.save("base-int4")
load("base-int4")
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.file_storage import clean_path
from whisperq_core.quantize import backends, model_export, pipeline, recipes
from whisperq_core.quantize.model_export import Manifest
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.scoring import divergence
from whisperq_core.scoring.divergence import Divergence
from whisperq_core.scoring.languages import code_of
from whisperq_core.speech import decode, recording_pieces
from whisperq_core.speech.voice_activity import (
    SpeechActivity,
    activity_from,
    frame_probabilities,
)
from whisperq_core.whisper import teacher_forcing
from whisperq_core.whisper.long_recordings import transcribe_pieces
from whisperq_core.whisper.models import Model
from whisperq_core.whisper.protocols import ProtocolName, protocol_named
from whisperq_core.whisper.runtime import Segment
from whisperq_core.whisper.transcription import WINDOW_S, detect_language, window_of

Speech = str | Path | bytes | np.ndarray


@dataclass(frozen=True)
class Transcript:
    """The text of one recording.

    segments: parts of the text with their times in seconds; one for all of it where the recording
    is at most 30 s long, or the runtime reports none. language: a code such as "en", as passed, or
    as detected where language_detected. audio_s, wall_s: duration of the recording and of the
    generation, in seconds. speech: where someone probably speaks; text elsewhere is probably
    hallucinated. silent: nothing is to be heard; the model was not run.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str
    language_detected: bool
    audio_s: float
    wall_s: float
    speech: SpeechActivity
    silent: bool = False

    @property
    def has_speech(self) -> bool:
        """Whether anyone probably speaks in the recording; where not, all text is hallucinated."""
        return self.speech.has_speech


class QuantizedModel:
    """A Whisper model after a recipe, ready to transcribe; made by `quantize` or `load`.

    recipe: how it was quantized. modules: names of the quantized modules. weights_bytes: serialized
    size of its weights; fp32_bytes: that of the fp32 model.
    """

    def __init__(self, model: Model, quantized: backends.Quantized, fp32_bytes: int):
        self._model, self._quantized = model, quantized
        self._runtime = pipeline.runtime_of(model, quantized)
        self.name = model.name
        self.recipe: Recipe = quantized.recipe
        self.modules: tuple[str, ...] = quantized.modules
        self.weights_bytes: int = quantized.weights_bytes
        self.fp32_bytes = fp32_bytes

    def __repr__(self) -> str:
        size = f"{self.weights_bytes / 1e6:.1f} MB, {len(self.modules)} modules quantized"
        return f"<QuantizedModel {self.name} · {self.recipe.name}: {size}>"

    @property
    def source(self) -> Model:
        """The model that features, language detection and word timestamps come from.

        fp32 for a model from `quantize`; the quantized one for a model from `load`, which has no
        fp32 weights.
        """
        return self._model

    def warm_up(self, samples: np.ndarray) -> None:
        """Transcribes 16 kHz mono float32 samples once, untimed: the first call is slower."""
        self._runtime.warm_up([samples])

    def transcribe(
        self,
        speech: Speech,
        language: str | None = None,
        task: str = "transcribe",
        protocol: ProtocolName = "study",
    ) -> Transcript:
        """Transcribes one recording of up to two hours.

        Digital silence, or faint steady noise, has an empty text: the model is not run, since it
        would hallucinate words. Its language is the one passed, or "en". Words that it
        hallucinates over other noise stay; `Transcript.has_speech` and `Segment.over_speech` mark
        them.

        Args:
            speech: a path, the content of an audio file, or 16 kHz mono float32 samples, shape
                (samples,).
            language: a code, tag or name such as "en", "en-US" or "English"; None detects it in the
                first 30 s.
            task: "transcribe", or "translate" to English.
            protocol: "study" decodes in 30 s windows as Transformers does; "corrected" adds
                Whisper's fallback at rising temperatures; "fitted" and "merged" decode in windows
                as long as the speech, which is several times as fast.

        Raises:
            AudioError: the file is not usable audio.
            InputError: Whisper has no such language, or WhisperQ no such protocol.
            ModelError: the model does not know the language or the task.
            RecipeUnsupported: the recipe's runtime cannot follow the protocol.
        """
        how = replace(protocol_named(protocol), task=task)
        pipeline.recipe_for_protocol(self.recipe, how)  # raises where it cannot follow it
        language = code_of(language) if language else None
        if isinstance(speech, np.ndarray):
            samples = speech
        else:
            samples = decode.load(clean_path(speech) if isinstance(speech, str) else speech)
        if decode.is_silent(samples):
            self._model.require_english([language], task)
            spoken = language or "en"
            duration_s = decode.duration_s(samples)
            nothing = SpeechActivity((), duration_s)
            return Transcript("", (), spoken, False, duration_s, 0.0, nothing, silent=True)
        spoken = language or detect_language(self._model, samples)
        audio_s, probabilities = decode.duration_s(samples), frame_probabilities(samples)
        activity = activity_from(probabilities, audio_s)
        if how.is_fitted and audio_s > WINDOW_S:
            pieces = recording_pieces.cut(samples, probabilities)
            result = transcribe_pieces(self._runtime, samples, pieces, spoken, how)
        else:
            result = self._runtime.transcribe([samples], [spoken], how)
        text = result.texts[0]
        return Transcript(
            text=text,
            segments=tuple(
                replace(part, over_speech=activity.has_speech_at(part.start_s, part.end_s))
                for part in result.segments or (Segment(0.0, audio_s, text),)
            ),
            language=spoken,
            language_detected=language is None,
            audio_s=audio_s,
            wall_s=result.wall_s,
            speech=activity,
        )

    def divergence(
        self,
        samples: np.ndarray,
        segments: Sequence[Segment],
        language: str,
        task: str = "transcribe",
        protocol: ProtocolName = "study",
    ) -> Divergence | None:
        """How far its predictions are from fp32's along a transcript; see `scoring.divergence`.

        None where there is no PyTorch model to compare with fp32's: the recipe has a runtime of its
        own, or the model was loaded without fp32 weights.

        Args:
            samples: 16 kHz mono float32, shape (samples,).
            segments: fp32's transcript, in segments of at most 30 s.
            language: its code.
            task, protocol: as the transcript was written.
        """
        other, fp32 = self._quantized.torch_model, self._model.torch_model
        if other is None or other is fp32:
            return None
        window, parts = window_of(protocol_named(protocol)), []
        for segment in segments:
            if not segment.text.strip():
                continue
            first, last = (int(s * decode.SAMPLE_RATE) for s in (segment.start_s, segment.end_s))
            audio = samples[first : min(last, first + int(WINDOW_S * decode.SAMPLE_RATE))]
            forced = teacher_forcing.forced_tokens(self._model, segment.text, language, task)
            of_fp32, of_other = (
                teacher_forcing.log_probabilities(
                    network,
                    teacher_forcing.encode(self._model, network, audio, window),
                    *forced,
                ).cpu()
                for network in (fp32, other)
            )
            nats = divergence.nats_of_tokens(of_fp32, of_other)
            changed = divergence.changed_tokens(of_fp32, of_other)
            parts.append(Divergence(len(nats), float(nats.sum()), int(changed.sum())))
        return divergence.total(parts)

    def save(self, folder: Path | str) -> Manifest:
        """Writes the model to a folder that `load` reads without any other weights.

        An exported model that is there is replaced. Raises RecipeUnsupported for a recipe whose
        model cannot be exported (other runtimes; bitsandbytes 4-bit on a CPU once it has
        transcribed), ExportError where the folder holds something else or cannot be written.
        """
        if reason := model_export.unexportable_reason(self.recipe):
            raise RecipeUnsupported(reason)
        folder = clean_path(folder).resolve()
        return model_export.export_quantized(
            self._model, self._quantized, folder, fp32_bytes=self.fp32_bytes
        )


def quantize(
    model_name: str,
    recipe: str | Recipe,
    device: str = "cpu",
    protocol: ProtocolName = "study",
) -> QuantizedModel:
    """Loads a Whisper model and quantizes it.

    Args:
        model_name: such as "base"; a name on the hub, or a folder of fp32 weights.
        recipe: a recipe, or its name, such as "hqq-int4-g64"; see `recipes.CATALOGUE`.
        device: "cpu", "cuda" or "mps".
        protocol: for which it is quantized. It matters for recipes that calibrate, on transcripts
            under it, and for "corrected", under which the output projection stays tied.

    Raises:
        RecipeError: there is no recipe of that name.
        RecipeUnsupported, LibraryMissing: it cannot run here, or not under the protocol.
        InputError: there is no protocol of that name.
        ModelError: the weights cannot be found or used.
    """
    chosen = recipes.recipe(recipe) if isinstance(recipe, str) else recipe
    if chosen.calibration == "evaluation-10%":
        raise RecipeUnsupported(
            f"{chosen.name} is calibrated on evaluation data, and a recording has none."
            " Choose the variant calibrated on the dev-clean excerpt."
        )
    how = protocol_named(protocol)
    chosen = pipeline.recipe_for_protocol(chosen, how)
    backends.require(chosen, device)
    model = pipeline.load_model(model_name)
    quantized = pipeline.quantize_model(model, chosen, None, device, how)
    return QuantizedModel(model, quantized, backends.serialized_bytes(model.torch_model))


def load(folder: Path | str) -> QuantizedModel:
    """The exported model in a folder, verified, on the device that it was exported for.

    Warns where a library has another version than at the export. Raises ExportError for a folder
    that holds no exported model, or one that was cut or altered; RecipeUnsupported or
    LibraryMissing where its recipe cannot run here.
    """
    exported = model_export.load(folder)
    return QuantizedModel(exported.model, exported.quantized, exported.manifest.fp32_bytes)
