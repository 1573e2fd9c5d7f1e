"""Words that are transcribed where nobody speaks, a minute."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from whisperq_core.analyze.paired_comparisons import protocol_identity
from whisperq_core.analyze.significance import ErrorCounts, Estimate, rate
from whisperq_core.evaluate.records import AccuracyRun, Run

# Of a count of none, the most that is compatible with it at 95 % (rule of three: Hanley & Lippman-
# Hand 1983, "If nothing goes wrong, is everything all right?").
_MOST_OF_NONE = 3.0

COLUMNS = (
    *("model", "recipe", "protocol", "set", "minutes", "recordings", "with_words", "loops"),
    *("words", "words_a_minute", "low", "high", "detected_words_a_minute", "detected_low"),
    *("detected_high", "key"),
)


@dataclass(frozen=True)
class Hallucinations:
    """What a recipe transcribed of recordings without speech.

    with_words: recordings of which it transcribed any. a_minute: words a minute; what is resampled
    are sources of noise, as speakers are elsewhere. where_detected: the same if only recordings in
    which a voice activity detector takes something for speech had been transcribed; None where it
    did not run.
    """

    run: AccuracyRun
    words: int
    with_words: int
    a_minute: Estimate
    where_detected: Estimate | None


def hallucinations(
    runs: Iterable[Run], speech_detected: Mapping[str, Mapping[str, bool]] | None = None
) -> list[Hallucinations]:
    """Of each model, recipe, protocol and set without any reference words, the newest run.

    speech_detected: by the set's name and the utterance's id, whether a detector takes it for
    speech.
    """
    newest: dict[tuple[object, ...], AccuracyRun] = {}
    for run in sorted(runs, key=lambda run: run.created_at):
        if isinstance(run, AccuracyRun) and not run.words.reference_length:
            spec = run.spec
            work = spec.weights_digest, spec.recipe.name, protocol_identity(spec.protocol)
            newest[(*work, spec.device, spec.eval_set_digest)] = run
    found = [_of_run(run, (speech_detected or {}).get(run.eval_set)) for run in newest.values()]
    return sorted(
        found,
        key=lambda h: (h.run.model, h.run.eval_set, h.run.spec.protocol.name, h.a_minute.value),
    )


def table(found: Iterable[Hallucinations]) -> pd.DataFrame:
    """One row for each, with COLUMNS."""
    nothing = Estimate(np.nan, np.nan, np.nan, 0, "")
    lines = []
    for one in found:
        run, detected = one.run, one.where_detected or nothing
        estimates = (one.a_minute, detected)
        values = (
            *(run.model, run.spec.recipe.name, run.spec.protocol.name, run.eval_set, run.minutes),
            *(len(run.utterances), one.with_words, run.loops, one.words),
            *(end for e in estimates for end in (e.value, e.low, e.high)),
            run.key,
        )
        lines.append(dict(zip(COLUMNS, values, strict=True)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _of_run(run: AccuracyRun, detected: Mapping[str, bool] | None) -> Hallucinations:
    utterances = run.by_id
    words = np.array([u.score.words.insertions for u in utterances], dtype=float)
    minutes = np.array([u.duration_s / 60 for u in utterances])
    sources = tuple(u.speaker for u in utterances)
    where_detected = None
    if detected is not None:
        kept = np.array([detected.get(u.id, True) for u in utterances])
        where_detected = _a_minute(np.where(kept, words, 0.0), minutes, sources)
    return Hallucinations(
        run,
        int(words.sum()),
        int((words > 0).sum()),
        _a_minute(words, minutes, sources),
        where_detected,
    )


def _a_minute(words: np.ndarray, minutes: np.ndarray, sources: tuple[str | None, ...]) -> Estimate:
    found = rate(ErrorCounts(words, minutes, sources))
    value, low, high = (float(x) / 100 for x in (found.value, found.low, found.high))
    if not words.any():
        low, high = 0.0, _MOST_OF_NONE / float(minutes.sum())
    block = "source" if found.block == "speaker" else found.block
    return Estimate(value, low, high, found.blocks, block)
