"""Who speaks each utterance, taken from the evaluation set as it is now, not frozen in a record.

Speakers change no transcript and no key, only the intervals (utterances of one speaker are not
independent). A set may get its speakers after it was evaluated, or have them corrected.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from whisperq_core.errors import EvalSetError
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run
from whisperq_core.speech import manifests

# Folder of a user's own sets below the cache, and the file that names their speakers.
SETS_FOLDER, MANIFEST = "sets", "manifest.jsonl"


class _Utterance(Protocol):
    """An utterance of a record, of an evaluation set or of a manifest."""

    @property
    def id(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def speaker(self) -> str | None: ...


@dataclass(frozen=True)
class SetSpeakers:
    """Reference and speaker of each utterance of a set, by id."""

    by_id: Mapping[str, tuple[str, str | None]]

    @classmethod
    def of(cls, utterances: Iterable[_Utterance]) -> "SetSpeakers":
        """Of the utterances of a set."""
        return cls({u.id: (u.reference, u.speaker) for u in utterances})


def with_speakers(
    run: AccuracyRun | DivergenceRun, speakers: SetSpeakers, baseline: Run | None = None
) -> AccuracyRun | DivergenceRun:
    """The run with the set's speakers; the run itself where it has them, or is of another set.

    It is of the set where ids and references are the same. A divergence run has no references: they
    are those of `baseline`, the accuracy run that its `baseline_key` names, and where there is none
    the ids decide.
    """
    if not _is_of_set(run, speakers, baseline):
        return run
    if all(u.speaker == speakers.by_id[u.id][1] for u in run.utterances):
        return run
    utterances = tuple(
        u.model_copy(update={"speaker": speakers.by_id[u.id][1]}) for u in run.utterances
    )
    return run.model_copy(update={"utterances": utterances})


def _is_of_set(
    run: AccuracyRun | DivergenceRun, speakers: SetSpeakers, baseline: Run | None
) -> bool:
    references = {id: reference for id, (reference, _) in speakers.by_id.items()}
    if isinstance(run, DivergenceRun):
        if {u.id for u in run.utterances} | set(run.left_out) != references.keys():
            return False
        if not isinstance(baseline, AccuracyRun):
            return True
        run = baseline
    return {u.id: u.reference for u in run.utterances} == references


def speakers_of_own_sets(root: Path) -> dict[str, SetSpeakers]:
    """Speakers of the user's own sets below the cache, by the set's name; reads manifests only."""
    speakers = {}
    for path in sorted((root / SETS_FOLDER).glob(f"*/{MANIFEST}")):
        try:
            stat = path.stat()
            speakers[path.parent.name] = _read(path.parent, stat.st_mtime_ns, stat.st_size)
        except (OSError, EvalSetError):
            continue  # being replaced, or damaged: the record keeps its own speakers
    return speakers


@lru_cache(maxsize=256)
def _read(folder: Path, modified_ns: int, size: int) -> SetSpeakers:
    return SetSpeakers.of(manifests.read(folder).rows)
