"""How well probable speech is told from noise: recordings called wrong, and words marked wrong.

    python -m benchmarks.speech_detection --speech FOLDER --noise FOLDER [--model base] [--seed 0]

Both folders have a manifest.jsonl with `file` on each line; that of speech `set` and `text`, that
of noise `kind` and `id`. Half of the noises and of the sets of speech serve to choose the
threshold; the second table is of the other half, at the threshold that is in the code. Speech is
taken as it is, at a peak of -60 dBFS (rounded to 16 bits), and with noise at 20 to 0 dB below it;
noise in pieces of 10 s, as it is and rounded to 16 bits at a peak of -60 dBFS. Babble of 2 to 16
speakers is listed by itself: it is speech, though nobody can transcribe it.

With a model, fp32 transcribes speech that is followed by 10 s of noise: how many of the words over
speech are marked as hallucinated, and how many of those over noise are not. A word is over noise
where its time is later than the speech by more than the margin.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from whisperq_core.speech import decode
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.voice_activity import (
    MARGIN_S,
    THRESHOLD,
    smoothed_probabilities,
    speech_activity,
)

PIECE = 10 * SAMPLE_RATE
PER_SET, TRANSCRIBED_PER_SET = 12, 6
SNRS_DB = (20, 10, 5, 0)
QUIET_DB = -60
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SPEAKERS = (2, 4, 8, 16)

Array = np.ndarray
# Condition and samples.
Sample = tuple[str, Array]


class Material:
    """Speech by set and noise by name, of one half."""

    def __init__(self, speech: Path, noise: Path, half: int, seed: int) -> None:
        self.chance = np.random.default_rng([seed, half])
        files = defaultdict(list)
        for row in _rows(speech):
            files[row["set"]].append(speech / row["file"])
        self.speech = {
            name: [
                decode.load(files_of_set[i])
                for i in self.chance.permutation(len(files_of_set))[:PER_SET]
            ]
            for name, files_of_set in sorted(files.items())[half::2]
        }
        noises = sorted((row["id"], row["file"]) for row in _rows(noise) if row["kind"] == "noise")
        self.noise = {name: decode.load(noise / file) for name, file in noises[half::2]}

    def noisy_speech(self) -> Iterator[Sample]:
        """Speech as it is, quiet, and with noise."""
        noises = list(self.noise.values())
        for name, recordings in self.speech.items():
            for samples in recordings:
                yield f"{name}, as it is", samples
                yield f"{name}, quiet", _quiet(samples)
                for snr_db in SNRS_DB:
                    noise = np.resize(noises[self.chance.integers(len(noises))], len(samples))
                    yield f"{name}, {snr_db} dB", samples + noise * _gain(samples, noise, snr_db)

    def noise_alone(self) -> Iterator[Sample]:
        """Pieces of each noise, and synthetic ones."""
        for name, samples in self.noise.items():
            for start in range(0, max(1, len(samples) - PIECE // 2), PIECE):
                yield name, samples[start : start + PIECE]
                yield f"{name}, quiet", _quiet(samples[start : start + PIECE])
        white = self.chance.normal(0, 0.02, PIECE).astype(np.float32)
        spectrum = np.fft.rfft(white)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        hum = np.sin(2 * np.pi * 50 * np.arange(PIECE) / SAMPLE_RATE)
        yield from (("white", white), ("pink", np.fft.irfft(spectrum)), ("hum", 0.05 * hum))

    def babble(self) -> Iterator[Sample]:
        """Several speakers at once, equally loud."""
        recordings = [
            one for recordings_of_set in self.speech.values() for one in recordings_of_set
        ]
        for speakers in SPEAKERS:
            for _ in range(PER_SET):
                chosen = self.chance.permutation(len(recordings))[:speakers]
                voices = [np.resize(recordings[i], PIECE) for i in chosen]
                mixed = sum(voice / np.sqrt((voice**2).mean()) for voice in voices)
                yield f"babble of {speakers}", 0.05 * mixed / np.sqrt(speakers)


def _rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def _quiet(samples: Array) -> Array:
    peak = 10 ** (QUIET_DB / 20)
    return np.round(samples / np.abs(samples).max() * peak * 2**15) / 2**15


def _gain(speech: Array, noise: Array, snr_db: float) -> float:
    return float(np.sqrt((speech**2).mean() / (noise**2).mean()) * 10 ** (-snr_db / 20))


def _highest(samples: Array) -> float:
    """The highest averaged probability: speech where it reaches the threshold."""
    return float(smoothed_probabilities(np.asarray(samples, np.float32)).max())


def choose(material: Material) -> None:
    """Prints how many recordings each threshold calls wrong."""
    speech = np.array([_highest(samples) for _, samples in material.noisy_speech()])
    noise = np.array([_highest(samples) for _, samples in material.noise_alone()])
    print("\nThe half to choose on")
    print(f"threshold  {len(speech)} of speech called none  {len(noise)} of noise called speech")
    for threshold in THRESHOLDS:
        missed, hallucinated = (speech < threshold).sum(), (noise >= threshold).sum()
        print(f"{threshold:9.1f}  {missed:24}  {hallucinated:26}")


def report(material: Material) -> None:
    """Prints, at the code's threshold, how many recordings of each condition are called wrong."""
    print(f"\nThe other half, at {THRESHOLD}")
    kinds = {
        "speech, called none": (material.noisy_speech(), False),
        "noise, called speech": (material.noise_alone(), True),
        "babble, called speech": (material.babble(), True),
    }
    for kind, (samples, counts_speech) in kinds.items():
        of, wrong, extreme = Counter(), Counter(), {}
        for name, one in samples:
            # Sets together: what differs is the condition.
            condition = name.split(", ")[-1] if kind.startswith("speech") else name
            highest = _highest(one)
            of[condition] += 1
            wrong[condition] += (highest >= THRESHOLD) == counts_speech
            pick = max if counts_speech else min
            extreme[condition] = pick(extreme.get(condition, highest), highest)
        print(f"{kind}: {sum(wrong.values())} of {sum(of.values())}")
        for condition, count in of.items():
            end = f"{'highest' if counts_speech else 'lowest'} {extreme[condition]:.2f}"
            print(f"  {condition:24} {wrong[condition]:3} of {count:3}  {end}")


def marked_words(material: Material, model_name: str) -> None:
    """Prints how many words of speech, and of the noise after it, are marked as hallucinated."""
    from whisperq_core.quantize.quantized_model import quantize
    from whisperq_core.whisper.word_timestamps import timed_words

    model = quantize(model_name, "fp32")
    noises = list(material.noise.values())
    counts = Counter()
    for name, recordings in material.speech.items():
        language = name.partition("-")[2] if name.startswith("fleurs") else "en"
        for speech in recordings[:TRANSCRIBED_PER_SET]:
            noise = np.resize(noises[material.chance.integers(len(noises))], PIECE)
            end_s = len(speech) / SAMPLE_RATE
            both = np.concatenate([speech, noise * _gain(speech, noise, 20)]).astype(np.float32)
            transcript = model.transcribe(both, language)
            activity = speech_activity(both)
            words = timed_words(
                model.source, both, transcript.segments, transcript.language, "transcribe"
            )
            for word in words:
                where = "noise" if word.start_s > end_s + MARGIN_S else "speech"
                marked = not activity.has_speech_at(word.start_s, word.end_s)
                counts[where] += 1
                counts[f"{where}, marked"] += marked
    print(
        f"\n{model_name}, fp32, speech and 10 s of noise 20 dB below it:"
        " words marked as hallucinated"
    )
    for where in ("speech", "noise"):
        print(f"  over {where}: {counts[f'{where}, marked']} of {counts[where]}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--model", help="transcribes, to count marked words; takes minutes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    halves = (Material(arguments.speech, arguments.noise, half, arguments.seed) for half in (0, 1))
    chosen_on, reported_on = halves
    choose(chosen_on)
    report(reported_on)
    if arguments.model:
        marked_words(reported_on, arguments.model)


if __name__ == "__main__":
    main()
