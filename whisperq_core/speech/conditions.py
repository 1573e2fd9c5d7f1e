"""Conditions that speech is put under: noise, babble, a room, a telephone, a lossy codec.

A condition is written after a set's name, as in `test-clean-excerpt+noise:coffee-shop@5dB`;
several are applied from left to right. The same utterance under the same condition has the same
samples on every machine of one kind: what is drawn depends on the utterance's id and not on the
level, so that two levels of a noise differ in nothing else.

`joined:5min`, which comes first, is none of them: it makes long recordings of a whole set (see
`joined_recordings`), and what follows is done to these.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from whisperq_core.errors import EvalSetError
from whisperq_core.speech import decode, noises, shipped_speech
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.noises import NoiseFile
from whisperq_core.speech.speech_level import speech_power

# Raise it when the samples of a condition change: it is part of a set's digest.
VERSION = 1

LEVELS_DB = (-20.0, 60.0)
COMMON_LEVELS_DB = (20, 10, 5, 0)
# Seconds in which the sound of a room falls by 60 dB; longer ones take minutes to simulate.
RT60_S = (0.2, 1.0)
OPUS_KBIT = tuple(range(6, 129))
# Minutes of recordings that utterances are joined into, at most.
LONGEST_MIN = 60
# Between the names of the speakers of one recording.
SPEAKERS_AND = "+"
MP3_KBIT = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
# Speakers at a time, and the sets that they are taken from.
BABBLE_SPEAKERS = 6
_BABBLE_SETS = {"test-clean-34-speakers", "test-other-25-speakers"}

# A room with the speaker at one end and the microphone 2.9 m away.
_ROOM_M, _SPEAKER_M, _MICROPHONE_M = (6.0, 5.0, 3.0), (2.0, 1.5, 1.6), (4.0, 3.5, 1.2)
_TELEPHONE_HZ, _TELEPHONE_RATE_HZ = (300.0, 3400.0), 8000
_LARGEST_16_BIT = 1 - 2**-15

# Mono at 16 kHz, shape (samples,).
Samples = npt.NDArray[np.float64]
# Of the samples, the utterance's id and its speaker.
Change = Callable[[Samples, str, str | None], Samples]


@dataclass(frozen=True)
class Condition:
    """What is done to the samples of each utterance.

    name: as it is written after a set's name. label: in words. sources: SHA-256 of recordings that
    it uses. attribution: of these. joined_min: minutes of the recordings that it joins utterances
    into; None for what is done to each utterance by itself.
    """

    name: str
    label: str
    change: Change = field(compare=False, repr=False)
    sources: tuple[str, ...] = ()
    attribution: str = ""
    joined_min: int | None = None

    @property
    def identity(self) -> list[str | int]:
        """All that the samples depend on, but for the speech and the libraries."""
        return [VERSION, self.name, *self.sources]

    def apply(
        self, samples: npt.NDArray[np.float32], id: str, speaker: str | None
    ) -> npt.NDArray[np.float32]:
        """The samples, shape (samples,), under the condition, of 16 bits, none clipped.

        As many as there were, but where utterances are joined.

        id, speaker: the utterance's. Raises EvalSetError where noise has no speech to relate to.
        """
        changed = self.change(samples.astype(np.float64), id, speaker)
        peak = np.abs(changed).max(initial=0.0)
        if peak > _LARGEST_16_BIT:
            changed = changed * (_LARGEST_16_BIT / peak)
        # As a 16-bit file has them, so that roundings of one CPU or another are gone.
        return (np.round(changed * 2**15) / 2**15).astype(np.float32)


def split(name: str) -> tuple[str, str]:
    """The set's name without conditions, and these with the + before the first; "" for none.

    What is after a + counts from the first kind of condition on, since folders may have a + in
    their name.
    """
    base, *parts = name.split("+")
    # "joined" alone is a word that folders have in their name.
    kinds = [
        i
        for i, part in enumerate(parts)
        if re.split("[:@]", part)[0] in _KINDS and part != "joined"
    ]
    if not kinds:
        return name, ""
    return "+".join([base, *parts[: kinds[0]]]), "+" + "+".join(parts[kinds[0] :])


def split_from_recordings(name: str) -> tuple[str, str]:
    """As `split`, but what joins utterances into recordings stays with the set's name.

    So the first is the name of the set that has the same recordings and references, in quiet.
    """
    base, added = split(name)
    joining = _JOINING.match(added)
    return (base + joining[0], added[joining.end() :]) if joining else (base, added)


_JOINING = re.compile(r"\+joined:[^+]*")


def parse(conditions: str) -> tuple[Condition, ...]:
    """The conditions of a set's name, as `split` gives them.

    Raises EvalSetError for an unknown kind or noise, a level, rate or length out of its range, or
    utterances that are to be joined after something was done to them.
    """
    parsed = tuple(_parse(one) for one in conditions.removeprefix("+").split("+"))
    if late := next((one for one in parsed[1:] if one.joined_min), None):
        raise EvalSetError(
            f"Utterances are joined before anything else is done to them, and once: write"
            f" +{late.name} directly after the set's name."
        )
    return parsed


def is_shipped(conditions: str) -> bool:
    """Whether conditions use nothing but what comes with WhisperQ."""
    files = re.findall(r"\+(?:noise|room):([^@+]*)", conditions)
    return all(name in noises.shipped() or _RT60.fullmatch(name) for name in files)


def common() -> list[str]:
    """Names of conditions to choose from, with nothing but what is shipped."""
    named = noises.shipped().values()
    loud = [*(f"noise:{one.name}" for one in named if one.kind == "noise"), "babble"]
    rooms = [f"room:{one.name}" for one in named if one.kind == "impulse response"]
    return [
        *(f"{one}@{level}dB" for one in loud for level in COMMON_LEVELS_DB),
        *("room:0.3s", "room:0.6s", *rooms, "telephone", "opus@12k", "mp3@32k"),
        "joined:5min",
    ]


def kinds() -> str:
    """How each kind of condition is written, for messages."""
    return ", ".join(example for example, _ in _KINDS.values())


def _parse(text: str) -> Condition:
    before, _, amount = text.strip().partition("@")
    kind, _, value = before.partition(":")
    if kind not in _KINDS:
        raise EvalSetError(f"There is no condition {text!r}. Conditions are: {kinds()}.")
    example, make = _KINDS[kind]
    condition = make(value.strip(), amount.strip())
    if condition is None:
        raise EvalSetError(f"{text!r} is not a condition. Write it like {example}.")
    return condition


def _noise(value: str, amount: str) -> Condition | None:
    level = _level_db(amount)
    if not value or level is None:
        return None
    file = noises.find(value, "noise")
    return Condition(
        f"noise:{value}@{level:g}dB",
        f"{value.replace('-', ' ')} at {level:g} dB",
        partial(_add_noise, file, level),
        (file.sha256,),
        file.attribution,
    )


def _add_noise(
    file: NoiseFile, level_db: float, speech: Samples, id: str, speaker: str | None
) -> Samples:
    return _mixed(speech, stretch_of(file, id, len(speech)), level_db, id)


def stretch_of(file: NoiseFile, id: str, length: int) -> Samples:
    """As many samples of a noise, from a place that the utterance's id determines."""
    noise = noises.read(file)
    start = _draw(id, file.name) % len(noise)
    return np.take(noise, np.arange(start, start + length), mode="wrap")


def _babble(value: str, amount: str) -> Condition | None:
    level = _level_db(amount)
    if value or level is None:
        return None
    return Condition(
        f"babble@{level:g}dB",
        f"babble at {level:g} dB",
        partial(_add_babble, level),
        tuple(row["sha256"] for rows in _voices().values() for row in rows),
        "babble: LibriSpeech, CC BY 4.0",
    )


@lru_cache(maxsize=1)
def _voices() -> dict[str, list[dict[str, str]]]:
    """The rows of the shipped recordings of each speaker of English."""
    voices: dict[str, list[dict[str, str]]] = {}
    for row in shipped_speech.rows():
        if _BABBLE_SETS & set(row["sets"]):
            voices.setdefault(row["speaker"], []).append(row)
    return voices


def babble_speakers(id: str, speaker: str | None) -> list[str]:
    """The speakers in the babble of an utterance; its own are none of them."""
    own = {speaker, *(speaker or "").split(SPEAKERS_AND)}
    others = sorted(_voices().keys() - own, key=lambda other: _draw(id, other))
    return others[:BABBLE_SPEAKERS]


def _add_babble(level_db: float, speech: Samples, id: str, speaker: str | None) -> Samples:
    """Other speakers at once, each as loud as the others."""
    babble = np.zeros(len(speech))
    for other in babble_speakers(id, speaker):
        rows = sorted(_voices()[other], key=lambda row: _draw(id, row["id"]))
        parts: list[Samples] = []
        while sum(map(len, parts)) < len(speech):
            row = rows[len(parts) % len(rows)]
            parts.append(decode.load(shipped_speech.SPEECH / row["file"]).astype(np.float64))
        voice = np.concatenate(parts)[: len(speech)]
        babble += voice / np.sqrt(speech_power(voice, SAMPLE_RATE))
    return _mixed(speech, babble, level_db, id)


def _mixed(speech: Samples, noise: Samples, level_db: float, id: str) -> Samples:
    """Speech with noise whose mean power is level_db below the power of the speech."""
    power = speech_power(speech, SAMPLE_RATE)
    if not power:
        raise EvalSetError(f"{id} is silent, so that no noise can be related to its speech.")
    # A stretch of digital silence is no noise: it is left as it is.
    noise_power = float(np.square(noise).mean()) or np.inf
    scale = float(np.sqrt(power / noise_power / 10 ** (level_db / 10)))
    return speech + noise * scale


def _room(value: str, amount: str) -> Condition | None:
    if not value or amount:
        return None
    if match := _RT60.fullmatch(value):
        rt60_s = float(match[1])
        if not RT60_S[0] <= rt60_s <= RT60_S[1]:
            raise EvalSetError(
                f"A room of {rt60_s:g} s cannot be simulated. Choose a reverberation time (RT60)"
                f" from {RT60_S[0]:g} to {RT60_S[1]:g} s."
            )
        change = partial(_reverberate, partial(_simulated_response, rt60_s))
        return Condition(f"room:{rt60_s:g}s", f"room, RT60 {rt60_s:g} s", change)
    file = noises.find(value, "impulse response")
    return Condition(
        f"room:{value}",
        value.replace("-", " "),
        partial(_reverberate, partial(_recorded_response, file)),
        (file.sha256,),
        file.attribution,
    )


_RT60 = re.compile(r"(\d+(?:\.\d+)?) ?s", re.I)


def _reverberate(
    response: Callable[[], Samples], speech: Samples, id: str, speaker: str | None
) -> Samples:
    from scipy.signal import fftconvolve

    wet: Samples = fftconvolve(speech, response())[: len(speech)]
    return wet


def _recorded_response(file: NoiseFile) -> Samples:
    """From the direct sound on, of energy 1."""
    samples = noises.read(file)
    response = samples[int(np.argmax(np.abs(samples))) :]
    return response / float(np.linalg.norm(response))


@lru_cache(maxsize=4)
def _simulated_response(rt60_s: float) -> Samples:
    """By the image method (Allen & Berkley 1979), walls by Sabine's formula; from the direct sound
    on, of energy 1."""
    import pyroomacoustics

    # Threads would add up in another order each time.
    pyroomacoustics.constants.set("num_threads", 1)
    absorption, order = pyroomacoustics.inverse_sabine(rt60_s, _ROOM_M)
    room = pyroomacoustics.ShoeBox(
        _ROOM_M,
        fs=SAMPLE_RATE,
        materials=pyroomacoustics.Material(absorption),
        max_order=order,
    )
    room.add_source(_SPEAKER_M)
    room.add_microphone(_MICROPHONE_M)
    room.compute_rir()
    whole = np.asarray(room.rir[0][0], np.float64)
    delay_s = float(np.linalg.norm(np.subtract(_SPEAKER_M, _MICROPHONE_M))) / room.c
    delay = round(delay_s * SAMPLE_RATE) + pyroomacoustics.constants.get("frac_delay_length") // 2
    response = whole[delay:]
    return response / float(np.linalg.norm(response))


def _telephone(value: str, amount: str) -> Condition | None:
    if value or amount:
        return None
    return Condition("telephone", "telephone", _through_telephone)


def _through_telephone(speech: Samples, id: str, speaker: str | None) -> Samples:
    """Band-limited, at 8 kHz, in 8 bits by the mu-law of ITU-T G.711."""
    import soundfile
    import soxr
    from scipy.signal import butter, sosfiltfilt

    narrow = soxr.resample(speech, SAMPLE_RATE, _TELEPHONE_RATE_HZ, "HQ")
    band = butter(4, _TELEPHONE_HZ, "bandpass", fs=_TELEPHONE_RATE_HZ, output="sos")
    file = io.BytesIO()
    # A phase of zero, so that words stay where they are.
    filtered = sosfiltfilt(band, narrow)
    soundfile.write(file, filtered, _TELEPHONE_RATE_HZ, format="WAV", subtype="ULAW")
    file.seek(0)
    coded, _ = soundfile.read(file)
    return _as_long_as(speech, soxr.resample(coded, _TELEPHONE_RATE_HZ, SAMPLE_RATE, "HQ"))


def _codec(
    codec: str, container: str, rates: Sequence[int], value: str, amount: str
) -> Condition | None:
    name = container if container == "mp3" else "opus"
    match = re.fullmatch(r"(\d{1,4}) ?k", amount, re.I)
    if value or not match:
        return None
    kbit = int(match[1])
    if kbit not in rates:
        several = ", ".join(map(str, rates)) if len(rates) < 20 else f"{rates[0]} to {rates[-1]}"
        raise EvalSetError(f"{name} has no {kbit} kbit/s. Choose {several}.")
    change = partial(_through_codec, codec, container, 1000 * kbit)
    return Condition(f"{name}@{kbit}k", f"{name} at {kbit} kbit/s", change)


def _through_codec(
    codec: str, container: str, bit_rate: int, speech: Samples, id: str, speaker: str | None
) -> Samples:
    """Encoded by FFmpeg, decoded by libsndfile."""
    import av
    import soundfile

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = bit_rate
        pcm = np.round(speech * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    coded, _ = soundfile.read(file)
    return _as_long_as(speech, coded)


def _joined(value: str, amount: str) -> Condition | None:
    match = re.fullmatch(r"(\d{1,6}) ?min", value, re.I)
    if amount or not match:
        return None
    minutes = int(match[1])
    if not 1 <= minutes <= LONGEST_MIN:
        raise EvalSetError(
            f"Utterances cannot be joined into recordings of {minutes} minutes. Choose 1 to"
            f" {LONGEST_MIN} minutes."
        )
    length = "1 minute" if minutes == 1 else f"{minutes} minutes"
    label = f"joined into recordings of about {length}"
    return Condition(f"joined:{minutes}min", label, _whole_set_only, joined_min=minutes)


def _whole_set_only(samples: Samples, id: str, speaker: str | None) -> Samples:
    """Joining needs the other utterances: see `evaluation_sets.under_conditions`."""
    raise ValueError("One utterance cannot be joined.")


def _as_long_as(speech: Samples, changed: Samples) -> Samples:
    return np.pad(changed[: len(speech)], (0, max(0, len(speech) - len(changed))))


def _level_db(amount: str) -> float | None:
    match = re.fullmatch(r"([-−+]?\d+(?:\.\d+)?) ?dB", amount, re.I)
    if not match:
        return None
    level = float(match[1].replace("−", "-"))
    low, high = LEVELS_DB
    if not low <= level <= high:
        raise EvalSetError(
            f"A level of {level:g} dB makes no sense: it is by how much the speech is louder than"
            f" the noise. Choose {low:g} to {high:g} dB."
        )
    return level


def _draw(id: str, name: str) -> int:
    """A number that an utterance and what is drawn for it determine."""
    return int.from_bytes(hashlib.sha256(f"{id} {name}".encode()).digest()[:8])


_KINDS: dict[str, tuple[str, Callable[[str, str], Condition | None]]] = {
    "noise": ("noise:coffee-shop@5dB", _noise),
    "babble": ("babble@5dB", _babble),
    "room": ("room:0.6s or room:seminar-room", _room),
    "telephone": ("telephone", _telephone),
    "opus": ("opus@12k", partial(_codec, "libopus", "ogg", OPUS_KBIT)),
    "mp3": ("mp3@32k", partial(_codec, "libmp3lame", "mp3", MP3_KBIT)),
    "joined": ("joined:5min", _joined),
}
