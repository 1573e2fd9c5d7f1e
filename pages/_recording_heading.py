"""The figures above a transcript: errors, difference from fp32, size, and what its times cover."""

from pages._recording_progress import measured_configuration, was_busy
from pages._transcript_view import Heading
from whisperq_core.plurals import capitalized
from whisperq_core.present import advisor_text
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.scoring import error_rates, key_words
from whisperq_core.scoring.transcript_alignment import Word, disagreement_pct

# Loading that takes less was none: the model was in memory.
_IN_MEMORY_S = 0.3


def heading(
    config: TranscriptionConfig,
    transcription: Transcription,
    reference: str,
    language: str,
    words: tuple[Word, ...],
    fp32_words: tuple[Word, ...] | None,
) -> Heading:
    """All that is known of one transcript. fp32_words: None for fp32's own."""
    facts = [
        *_errors(transcription, reference, language),
        *_without_reference(transcription, words, fp32_words),
        *_times(config, transcription),
    ]
    if transcription.words_note:
        facts.append(transcription.words_note)
    return Heading(config.name, tuple(facts), tuple(_warnings(transcription, words)))


def _errors(transcription: Transcription, reference: str, language: str) -> list[str]:
    if not reference:
        return []
    facts = []
    score = error_rates.score(reference, transcription.text, language)
    if score.words.rate is not None:
        facts.append(f"WER {score.words.rate:.1f} %, CER {score.characters.rate:.1f} %")
    if important := key_words.text(key_words.count(reference, transcription.text, language)):
        facts.append(capitalized(important))
    return facts


def _without_reference(
    transcription: Transcription, words: tuple[Word, ...], fp32_words: tuple[Word, ...] | None
) -> list[str]:
    """How far it is from fp32, and how many words are probably wrong."""
    facts = []
    if fp32_words is not None and (change := disagreement_pct(fp32_words, words)) is not None:
        facts.append(f"{change:.1f} % word difference from fp32")
    if (divergence := transcription.divergence) is not None:
        facts.append(f"Divergence from fp32: {1000 * divergence.nats_per_token:.0f} mnat per token")
    if any(word.probability is not None for word in words):
        unlikely = sum(word.is_unlikely for word in words)
        facts.append(f"Improbable words: {unlikely} of {len(words)}")
    return facts


def _times(config: TranscriptionConfig, transcription: Transcription) -> list[str]:
    """Size, the relative latency that was measured, and the time of this one pass."""
    size = f"{transcription.weights_bytes / 1e6:.0f} MB"
    measured = measured_configuration(config)
    if measured is not None and measured.is_reference:
        speed = "the reference for speed"
    elif measured is not None and measured.latency is not None:
        speed = f"measured: {advisor_text.speed_words(measured.latency.value)} as fp32"
    else:
        speed = "speed not measured"
    facts = [
        f"{size}, {speed}",
        f"This clip, once, without loading: {transcription.wall_s:.2f} s,"
        f" RTF {transcription.rtf:.2f}",
    ]
    if (load_s := transcription.load_s) is not None:
        in_memory = load_s < _IN_MEMORY_S
        facts.append("Loading: none, it was in memory" if in_memory else f"Loading: {load_s:.1f} s")
    if was_busy(transcription):
        facts.append("Timed while the machine was busy: slower than the recipe is.")
    return facts


def _warnings(transcription: Transcription, words: tuple[Word, ...]) -> list[str]:
    warnings = []
    if transcription.looped:
        warnings.append("Repeats itself: a decoding loop.")
    if not transcription.text:
        warnings.append("The transcript is empty.")
    elif not words:
        warnings.append(f"Nothing that is scored: “{transcription.text}”")
    if transcription.has_speech:
        warnings += [
            f"Probably hallucinated, no speech at {phrase.start_s:.1f} s: “{phrase.text}”"
            for phrase in transcription.hallucinated
        ]
    return warnings
