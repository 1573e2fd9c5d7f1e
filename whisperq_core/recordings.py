"""A user's recording in, a transcript out: decode, quantize or load, transcribe, score."""

from dataclasses import dataclass
from functools import lru_cache

from whisperq_core import artefacts, audio, backends, evaluate, machine, scores
from whisperq_core.errors import RecipeUnsupported
from whisperq_core.protocols import Protocol
from whisperq_core.recipes import Recipe
from whisperq_core.transcribe import detect_language, runtime_of

AUTO = "auto"


@dataclass(frozen=True)
class Recording:
    """An uploaded or recorded file. reference: what was said, empty where unknown."""

    name: str
    data: bytes
    reference: str = ""


@dataclass(frozen=True)
class Heard:
    """What one recipe heard in one recording. score is None without a reference.

    language: as chosen, or as detected where `detected`. rtf is of this single pass.
    """

    text: str
    language: str
    detected: bool
    audio_s: float
    wall_s: float
    weights_bytes: int
    fp32_bytes: int
    silent: bool
    looped: bool
    score: scores.Score | None

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
        made = artefacts.load(model_name)
        return made.model, made.quantized, made.manifest.fp32_bytes
    if recipe.calibration == "evaluation-10%":
        raise RecipeUnsupported(
            f"{recipe.name} is calibrated on evaluation data, and a recording has none."
            " Choose the variant calibrated on the dev-clean excerpt."
        )
    model = evaluate.load_model(model_name)
    quantized = evaluate.quantize_model(model, recipe, None, device, evaluate.STUDY)
    return model, quantized, backends.serialized_bytes(model.torch_model)


def hear(
    recording: Recording,
    model_name: str,
    recipe: Recipe | None,
    *,
    language: str = AUTO,
    task: str = "transcribe",
    device: str = "cpu",
    threads: int = 0,
) -> Heard:
    """Transcribes one recording with one recipe.

    recipe None: model_name is the folder of an exported model, which has a recipe and a device, and
    detects the language itself.
    Raises AudioError for what is not usable audio, RecipeUnsupported or LibraryMissing for a recipe
    that cannot run here, ModelUnavailable for weights that cannot be had, ArtefactError for an
    exported model that cannot be loaded.
    """
    samples = audio.load(recording.data, recording.name)
    if recipe is not None:
        backends.require(recipe, device)
    stamp = "" if recipe else artefacts.digest(model_name)
    threads = threads or machine.default_threads()
    model, quantized, fp32_bytes = _prepared(model_name, recipe, device, threads, stamp)
    detected = language == AUTO
    if detected:
        language = detect_language(model, samples)
    protocol = Protocol("recording", batch_size=1, task=task)
    runtime = runtime_of(model, quantized)
    runtime.warm_up([samples[: audio.SAMPLE_RATE]])
    found = runtime.transcribe([samples], [language], protocol)
    text = found.texts[0]
    known = recording.reference.strip()
    return Heard(
        text=text,
        language=language,
        detected=detected,
        audio_s=audio.duration_s(samples),
        wall_s=found.wall_s,
        weights_bytes=quantized.weights_bytes,
        fp32_bytes=fp32_bytes,
        silent=audio.is_silent(samples),
        looped=scores.is_looped(text),
        score=scores.score(known, text, language) if known else None,
    )
