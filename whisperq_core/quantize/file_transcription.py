"""A recording in, a transcript out: decode, quantize or load, transcribe, time its words.

And how far a recipe's predictions are from fp32's along fp32's transcript, which needs no
reference.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from whisperq_core import machine
from whisperq_core.errors import ModelError
from whisperq_core.quantize import backends, model_export, quantized_model
from whisperq_core.quantize.pipeline import PIPELINE_VERSION
from whisperq_core.quantize.quantized_model import QuantizedModel, Transcript
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.scoring import loops
from whisperq_core.scoring.divergence import Divergence
from whisperq_core.scoring.languages import code_of
from whisperq_core.speech import decode, recording_pieces
from whisperq_core.speech.voice_activity import frame_probabilities
from whisperq_core.whisper import model_sources, model_weights
from whisperq_core.whisper.protocols import ProtocolName, protocol_named
from whisperq_core.whisper.runtime import Segment
from whisperq_core.whisper.transcription import WINDOW_S
from whisperq_core.whisper.word_timestamps import TimedWord, alignment_problem, timed_words

AUTO = "auto"


@dataclass(frozen=True)
class TranscriptionConfig:
    """What is to transcribe a recording, and how.

    recipe None: model is the folder of an exported model, which has a recipe and a device.
    language: AUTO, or a code, tag or name such as "en", "en-US" or "English", kept as the code.
    protocol: how it decodes; an exported model was quantized for the protocol of its export.

    Raises InputError for a language that Whisper does not have, or an unknown protocol.
    """

    model: str
    recipe: Recipe | None
    language: str = AUTO
    task: str = "transcribe"
    device: str = "cpu"
    protocol: ProtocolName = "study"

    def __post_init__(self) -> None:
        protocol_named(self.protocol)
        automatic = self.language.strip().lower() == AUTO
        object.__setattr__(self, "language", AUTO if automatic else code_of(self.language))

    @property
    def name(self) -> str:
        """The recipe's name, or the exported folder's."""
        return self.recipe.name if self.recipe else f"{Path(self.model).name}, exported"

    @property
    def key(self) -> str:
        """16 hex digits that change with everything that can change the transcript.

        A published model's name identifies its weights; for a folder or a branch of a hub model the
        weights themselves are in the key, since they may be replaced.

        Raises ExportError for a folder that is no exported model.
        """
        what = self.recipe.axes() if self.recipe else model_export.digest(self.model)
        fields = [self.model, what, self.language, self.task, self.device, PIPELINE_VERSION]
        if self.recipe and (weights := _replaceable_weights(self.model)):
            fields.append(weights)
        if self.recipe and (version := backends.backend_of(self.recipe).code_version) > 1:
            fields.append(version)
        if self.protocol != "study":  # came later: the keys of what was stored stay
            fields.append(protocol_named(self.protocol).identity())
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _replaceable_weights(model: str) -> str | None:
    """What identifies the weights of a folder or a hub branch.

    None for a published model, and for one that cannot be read: transcribing says why.
    """
    with suppress(ModelError):
        source = model_sources.find(model)
        if source.kind == "folder":
            return model_weights.digest(source)
        if source.kind == "hub" and source.name not in model_sources.HUB:
            # The snapshot's folder is named after the commit that the branch was when downloaded.
            return source.folder.name if source.folder else source.revision
    return None


class Transcription(BaseModel, frozen=True):
    """What one recipe transcribed in one recording; empty, without running it, where `silent`.

    language: as chosen, or as detected where `detected`. words: with their times, from the fp32
    model's attention. words_note: why these times are estimates, where they are. speech_s: seconds
    of probable speech; None in what was stored before this was measured. rtf is of this single
    pass; neither loading nor the words' times are in it. load_s: seconds until the model was ready,
    from its weights to its first, untimed run; next to nothing where it was in memory; None in what
    was stored before this was measured. load_average: of the machine just before the pass; None
    where the system does not tell. divergence: from fp32 along fp32's transcript; None until it is
    measured, and where it cannot be. audio_notes: sentences on what was done to the samples or is
    unusual, see `decode.AudioStream`.
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
    words_note: str | None = None
    speech_s: float | None = None
    load_average: float | None = None
    load_s: float | None = None
    divergence: Divergence | None = None
    audio_notes: tuple[str, ...] = ()

    @property
    def has_speech(self) -> bool:
        """Whether anyone probably speaks; True where that was not measured."""
        return not self.silent and self.speech_s != 0

    @property
    def hallucinated(self) -> tuple[TimedWord, ...]:
        """What was written where probably nobody speaks; consecutive words as one."""
        phrases = [
            list(phrase)
            for over, phrase in groupby(self.words, lambda w: w.over_speech)
            if not over
        ]
        return tuple(
            TimedWord(
                text=" ".join(word.text for word in phrase),
                start_s=phrase[0].start_s,
                end_s=phrase[-1].end_s,
                over_speech=False,
            )
            for phrase in phrases
        )

    @property
    def rtf(self) -> float:
        """Generation time over audio duration."""
        return self.wall_s / self.audio_s


# The recommended recipe's and fp32's, whose recordings are the first to be compared.
@lru_cache(maxsize=2)
def _quantized_model(
    model_name: str,
    recipe: Recipe | None,
    device: str,
    threads: int,
    stamp: str,
    protocol: ProtocolName,
) -> QuantizedModel:
    """The last quantized models stay in memory for the next recording.

    stamp: what identifies the weights where they may be replaced.
    """
    import torch

    torch.set_num_threads(threads)
    if recipe is None:
        return quantized_model.load(model_name)
    return quantized_model.quantize(model_name, recipe, device, protocol)


def load_model(config: TranscriptionConfig, threads: int = 0) -> QuantizedModel:
    """The configuration's model, quantized, in memory from now on.

    threads: 0 is all cores. Raises what `transcribe_file` raises for a model or a recipe.
    """
    recipe = config.recipe
    if recipe is not None:
        backends.require(recipe, config.device)
    replaceable = (
        _replaceable_weights(config.model) if recipe else model_export.digest(config.model)
    )
    threads = threads or machine.default_threads()
    return _quantized_model(
        config.model, recipe, config.device, threads, replaceable or "", config.protocol
    )


def transcribe_file(
    recording: Path, config: TranscriptionConfig, name: str = "", threads: int = 0
) -> Transcription:
    """Transcribes one file and times its words.

    Args:
        recording: the file.
        config: model, recipe, language, task and protocol.
        name: what messages call the file.
        threads: 0 is all cores.

    Raises:
        AudioError: the file is not usable audio.
        RecipeUnsupported, LibraryMissing: the recipe cannot run here, or not under the protocol.
        ModelUnavailable: the weights cannot be had.
        ExportError: the exported model cannot be loaded.
    """
    stream = decode.AudioStream(recording, name)
    samples = np.concatenate(list(stream))
    started = time.perf_counter()
    model = load_model(config, threads)
    model.warm_up(samples[: decode.SAMPLE_RATE])
    load_s = time.perf_counter() - started
    language = None if config.language == AUTO else config.language
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    transcript = model.transcribe(samples, language, config.task, config.protocol)
    words_note = None if transcript.silent else alignment_problem(model.source, config.task)
    words = timed_words(
        model.source, samples, transcript.segments, transcript.language, config.task
    )
    return Transcription(
        text=transcript.text,
        words=_marked(words, transcript, by_segment=words_note is not None),
        words_note=words_note,
        language=transcript.language,
        detected=transcript.language_detected,
        audio_s=transcript.audio_s,
        wall_s=transcript.wall_s,
        weights_bytes=model.weights_bytes,
        fp32_bytes=model.fp32_bytes,
        silent=transcript.silent,
        looped=loops.is_looped(transcript.text),
        speech_s=transcript.speech.speech_s,
        load_average=load_average,
        load_s=load_s,
        audio_notes=tuple(stream.notes),
    )


def has_divergence(config: TranscriptionConfig) -> bool:
    """Whether its divergence from fp32 can be measured: both have to be PyTorch models."""
    return config.recipe is not None and not config.recipe.has_own_runtime


def measure_divergence(
    recording: Path, config: TranscriptionConfig, baseline: Transcription, name: str = ""
) -> Divergence | None:
    """How far a configuration's predictions of a recording are from fp32's.

    Both are given fp32's transcript, token by token. Raises what `transcribe_file` raises.

    Args:
        recording: the file.
        config: the quantized configuration.
        baseline: fp32's transcription of the file under the same settings.
        name: what messages call the file.

    Returns:
        None where there are no words, or no PyTorch model to compare.
    """
    if not baseline.words or not has_divergence(config):
        return None
    samples = decode.load(recording, name)
    model = load_model(config)
    segments = _forced_segments(samples, baseline)
    return model.divergence(samples, segments, baseline.language, config.task, config.protocol)


def _forced_segments(samples: np.ndarray, transcription: Transcription) -> list[Segment]:
    """A transcript in segments that Whisper's window holds, cut in pauses."""
    if transcription.audio_s <= WINDOW_S:
        return [Segment(0.0, transcription.audio_s, transcription.text)]
    pieces = recording_pieces.cut(samples, frame_probabilities(samples))
    if not pieces:
        return []
    # A word belongs to the piece that its middle is in or nearest to.
    borders = [(one.end_s + after.start_s) / 2 for one, after in pairwise(pieces)]
    middles = [(word.start_s + word.end_s) / 2 for word in transcription.words]
    texts: list[list[str]] = [[] for _ in pieces]
    for word, place in zip(transcription.words, np.searchsorted(borders, middles), strict=True):
        texts[place].append(word.text)
    return [
        Segment(piece.start_s, piece.end_s, " ".join(words))
        for piece, words in zip(pieces, texts, strict=True)
    ]


def _marked(
    words: tuple[TimedWord, ...], transcript: Transcript, by_segment: bool
) -> tuple[TimedWord, ...]:
    """The words, with whether anyone speaks there. by_segment: their own times are estimates."""
    if by_segment:
        over_speech = [part.over_speech for part in transcript.segments for _ in part.text.split()]
    else:
        over_speech = [transcript.speech.has_speech_at(w.start_s, w.end_s) for w in words]
    return tuple(
        word.model_copy(update={"over_speech": over})
        for word, over in zip(words, over_speech, strict=True)
    )
