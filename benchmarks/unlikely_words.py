"""How well a low probability tells wrong words, where there is no reference.

    python -m benchmarks.unlikely_words [--model base] [--set test-other-25-speakers]
        [--recipe fp32,whole-int8-dynamic-bf16]

Takes stored transcripts of the set, times their words with the fp32 model as Compare recordings
does, and counts how many of the words below a probability are wrong, and how many of the wrong ones
are below it. Wrong is what is substituted or inserted; words that are left out have no probability.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.scoring.transcript_alignment import align, words_of
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import models
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.runtime import Segment
from whisperq_core.whisper.word_timestamps import timed_words

THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


def judged_words(model: models.Model, run: AccuracyRun) -> Iterator[tuple[float, bool]]:
    """Probability of each scored word, and whether it is wrong."""
    spoken = {u.id: u for u in evaluation_sets.by_name(run.eval_set).utterances}
    for utterance in run.utterances:
        samples = evaluation_sets.read_audio(spoken[utterance.id])
        whole = Segment(0.0, utterance.duration_s, utterance.hypothesis)
        timed = timed_words(model, samples, [whole], utterance.language, "transcribe")
        written = words_of(
            utterance.hypothesis,
            utterance.language,
            [word.start_s for word in timed],
            [word.probability for word in timed],
        )
        for slot in align([words_of(utterance.reference, utterance.language), written]):
            word = slot.words[1]
            if word is not None and word.probability is not None:
                yield word.probability, slot.kind(1) != "equal"


def main() -> None:
    """Prints a line for each threshold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="base")
    parser.add_argument("--set", default="test-other-25-speakers")
    parser.add_argument("--recipe", default="fp32,whole-int8-dynamic-bf16")
    arguments = parser.parse_args()
    names = arguments.recipe.split(",")
    runs = [
        run
        for run in Store(SHIPPED_CACHE).runs()
        if isinstance(run, AccuracyRun)
        and (run.model, run.eval_set) == (arguments.model, arguments.set)
        and run.spec.recipe.name in names
        and run.spec.protocol.name == STUDY.name
    ]
    model = models.load(arguments.model)
    judged = [pair for run in runs for pair in judged_words(model, run)]
    probability, wrong = (np.array(values) for values in zip(*judged, strict=True))
    print(f"{len(runs)} transcripts of {arguments.set}: {len(wrong)} words, {wrong.sum()} wrong")
    print("below  marked  of these wrong  of the wrong words")
    for threshold in THRESHOLDS:
        marked = probability < threshold
        hits = (marked & wrong).sum()
        print(
            f"{threshold:5.2f}  {100 * marked.mean():5.1f} %"
            f"  {100 * hits / max(1, marked.sum()):12.0f} %  {100 * hits / wrong.sum():16.0f} %"
        )


if __name__ == "__main__":
    main()
