"""Recordings longer than Whisper's window, under protocols that fit the window to the speech.

A recording is cut in pauses (see `speech.recording_pieces`), its pieces are transcribed in batches
by length, and their texts are joined in order. Only one batch is in memory at a time, besides the
recording itself. What loops is decoded again in the whole window, as in any fitted window.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from whisperq_core.scoring.languages import unit_of
from whisperq_core.speech import decode, recording_pieces
from whisperq_core.speech.recording_pieces import Piece
from whisperq_core.speech.voice_activity import frame_probabilities
from whisperq_core.whisper.protocols import Protocol
from whisperq_core.whisper.runtime import Runtime, Segment, Transcripts, combine_transcripts
from whisperq_core.whisper.torch_types import Array

# Of the code that cuts and joins. Raise it when a transcript can change: it is part of the keys of
# results that have it.
VERSION = 1
# Where the voice activity detector comes from; its version counts, too.
DETECTOR_PACKAGE = "faster-whisper"


def transcribe_recording(
    runtime: Runtime, samples: Array, language: str, protocol: Protocol
) -> Transcripts:
    """One transcript of a recording over 30 s, as `QuantizedModel.transcribe` has it.

    samples: 16 kHz mono float32, shape (samples,). wall_s includes the search for pauses.
    """
    start = time.perf_counter()
    pieces: tuple[Piece, ...] = ()
    if not decode.is_silent(samples):
        pieces = recording_pieces.cut(samples, frame_probabilities(samples))
    searched_s = time.perf_counter() - start
    transcripts = transcribe_pieces(runtime, samples, pieces, language, protocol)
    return replace(transcripts, wall_s=transcripts.wall_s + searched_s)


def transcribe_pieces(
    runtime: Runtime,
    samples: Array,
    pieces: Sequence[Piece],
    language: str,
    protocol: Protocol,
) -> Transcripts:
    """One transcript of a recording, from its pieces; each that has a text is a segment.

    samples: 16 kHz mono float32, shape (samples,). pieces: at most 30 s each, in their order.
    """
    if not pieces:
        return Transcripts(("",), (0.0,), 0.0, encoder_s=0.0, tokens=0, redone=(False,))
    by_length = sorted(range(len(pieces)), key=lambda i: (pieces[i].start - pieces[i].end, i))
    texts, batches = [""] * len(pieces), []
    for first in range(0, len(by_length), protocol.batch_size):
        rows = by_length[first : first + protocol.batch_size]
        audio = [samples[pieces[i].start : pieces[i].end] for i in rows]
        batch = runtime.transcribe(audio, [language] * len(rows), protocol)
        batches.append(batch)
        for i, text in zip(rows, batch.texts, strict=True):
            texts[i] = text
    combined = combine_transcripts(batches)
    unspaced = protocol.task == "transcribe" and unit_of(language) == "characters"
    return replace(
        combined,
        texts=(("" if unspaced else " ").join(filter(None, texts)),),
        temperatures=(max(combined.temperatures),),
        redone=(any(combined.redone),),
        segments=tuple(
            Segment(piece.start_s, piece.end_s, text)
            for piece, text in zip(pieces, texts, strict=True)
            if text
        ),
    )
