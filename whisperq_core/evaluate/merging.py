"""Results that were measured elsewhere, checked one by one and added to the store.

Checks tell damage and mistakes, not lies: nothing in a record proves that its transcripts are what
a model wrote. Merge what comes from people you trust.
"""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from whisperq_core.errors import EvalSetError, InputError, StoreError
from whisperq_core.evaluate.notes import MAX_NOTES, NOTES_FOLDER, read_note
from whisperq_core.evaluate.records import (
    AccuracyRun,
    DivergenceRun,
    Run,
    SizeRun,
    SpeedRun,
    utc_now,
)
from whisperq_core.evaluate.rescoring import rescored
from whisperq_core.evaluate.speakers import speakers_of_own_sets
from whisperq_core.evaluate.store import RESULTS_FOLDER, Store, read_run
from whisperq_core.file_storage import Folder, clean_path, open_folder
from whisperq_core.quantize.backends import BACKENDS
from whisperq_core.quantize.pipeline import PIPELINE_VERSION
from whisperq_core.quantize.recipes import CATALOGUE, Recipe
from whisperq_core.speech import conditions, evaluation_sets, librispeech

# Files of a folder that is merged; each has `file_storage.MAX_BYTES` at most.
MAX_FILES = 20_000
# Characters of an utterance's reference or transcript: five hours of speech. To align longer ones
# takes minutes.
_MAX_CHARACTERS = 300_000
# By how much the clock of another machine may be ahead of ours.
_CLOCK_TOLERANCE = timedelta(days=1)
_OTHER_CODE = "Use the same version of WhisperQ on both machines and measure it again."


@dataclass
class MergeReport:
    """What became of the files of a folder.

    added: runs that are in the store now. known: how many were there before. other_transcripts:
    keys of known ones whose transcripts are not ours, which another CPU's rounding can cause; ours
    stay. rescored: how many of the added were scored by other normalizers, and anew. notes: how
    many notes were added. refused: why a file was not merged, in a sentence, by its name.
    """

    added: list[Run] = field(default_factory=list)
    known: int = 0
    other_transcripts: list[str] = field(default_factory=list)
    rescored: int = 0
    notes: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def merge(location: str, store: Store) -> MergeReport:
    """Adds the results of a folder or URL to the store; nothing that is there is changed.

    location: a cache folder, with `results` in it, or a folder of result files. Each result is
    written as a whole or not at all, so that after an interruption the same call goes on.

    Raises InputError where there are no results, or too many, and StoreError where the location
    cannot be reached or the store cannot be written.
    """
    there, folder, names = _result_files(location)
    report = MergeReport()
    merger = _Merger(store, report)
    waiting = [name for name in names if not merger.take(folder, name)]
    # Their fp32 transcripts may have come after them.
    for name in waiting:
        merger.take(folder, name, is_last=True)
    merger.take_notes(there.subfolder(NOTES_FOLDER))
    return report


def _result_files(location: str) -> tuple[Folder, Folder, list[str]]:
    """The folder at the location, the one of its result files, and their names."""
    if "://" in location:
        there = open_folder(location)
    elif (path := clean_path(location)).is_file():
        raise InputError(
            f"{path} is a file. Give the folder that it is in; unpack an archive first."
        )
    elif not path.exists():
        raise InputError(f"There is no folder {path}. Check its name.")
    else:
        there = open_folder(path)
    for folder in (there.subfolder(RESULTS_FOLDER), there):
        if names := sorted(folder.json_names()):
            if len(names) > MAX_FILES:
                raise InputError(
                    f"{folder} has more than {MAX_FILES} files. Split it into several folders."
                )
            return there, folder, names
    raise InputError(
        f"There are no results in {location}. Give a cache folder, with {RESULTS_FOLDER}/ in it, or"
        " a folder of result files."
    )


class _Merger:
    """Takes one file after another into the store."""

    def __init__(self, store: Store, report: MergeReport):
        self._store, self._report = store, report
        self._runs = {run.key: run for run in store.runs()}
        self._speech = _KnownSpeech(store, self._runs.values())

    def take(self, folder: Folder, name: str, is_last: bool = False) -> bool:
        """Adds the run of a file, or reports why not; False where its fp32 run is not here yet.

        is_last: there is nothing to wait for any more.
        """
        try:
            run = read_run(folder, name)
        except StoreError as error:
            self._report.refused[name] = str(error)
            return True
        if run.key in self._runs:
            self._compare(run, self._runs[run.key])
            return True
        if isinstance(run, DivergenceRun) and run.baseline_key not in self._runs and not is_last:
            return False
        reason = _refusal(run) or self._speech.refusal(run) or self._missing_baseline(run)
        current = run
        if reason is None and isinstance(run, AccuracyRun):
            current = rescored(run)
            reason = _altered(run, current)
        if reason:
            self._report.refused[name] = reason
            return True
        self._report.rescored += current is not run
        self._store.put(current)
        self._report.added.append(current)
        self._runs[run.key] = current
        self._speech.add(current)
        return True

    def take_notes(self, folder: Folder) -> None:
        """Copies the notes of a folder on runs that are here."""
        stored = {note.id for note in self._store.every_note()}
        for name in sorted(folder.json_names())[:MAX_NOTES]:
            try:
                note = read_note(folder, name)
            except StoreError as error:
                self._report.refused[f"{NOTES_FOLDER}/{name}"] = str(error)
                continue
            if note.id in stored:
                continue
            if (run := self._runs.get(note.run)) is None:
                reason = f"It is on a result, {note.run}, that is neither here nor there."
                self._report.refused[f"{NOTES_FOLDER}/{name}"] = reason
                continue
            self._store.copy_note(note, run)
            self._report.notes += 1

    def _compare(self, run: Run, ours: Run) -> None:
        self._report.known += 1
        if isinstance(run, AccuracyRun) and isinstance(ours, AccuracyRun):
            texts = [{u.id: u.hypothesis for u in one.utterances} for one in (run, ours)]
            if texts[0] != texts[1]:
                self._report.other_transcripts.append(run.key)

    def _missing_baseline(self, run: Run) -> str | None:
        if not isinstance(run, DivergenceRun) or run.baseline_key in self._runs:
            return None
        return (
            f"It was measured along the transcripts of an fp32 result, {run.baseline_key}, that is"
            " neither here nor there. Merge that result, too."
        )


class _KnownSpeech:
    """References of evaluation sets by the set's name: those on this machine, and of all runs."""

    def __init__(self, store: Store, runs: Iterable[Run]):
        self._references: dict[str, list[dict[str, str]]] = defaultdict(list)
        self._digests: dict[str, set[str]] = defaultdict(set)
        self._add_shipped()
        for name, speakers in speakers_of_own_sets(store.root).items():
            references = {id: reference for id, (reference, _) in speakers.by_id.items()}
            self._references[name].append(references)
        for split in librispeech.SPLITS:
            self._add_downloaded(split)
        for run in runs:
            self.add(run)

    def _add_downloaded(self, split: str) -> None:
        folder = librispeech.split_folder(split)
        with suppress(EvalSetError):  # not unpacked as a whole
            if folder:
                references = {row.id: row.reference for row in librispeech.rows(folder)}
                self._references[f"librispeech-{split}"].append(references)

    def _add_shipped(self) -> None:
        try:
            shipped = evaluation_sets.shipped_sets()
        except EvalSetError:
            return
        for name, its in shipped.items():
            self._references[name].append({u.id: u.reference for u in its.utterances})
            self._digests[name].add(its.digest)

    def add(self, run: Run) -> None:
        """Takes a run's set as one that is known."""
        self._digests[run.eval_set].add(run.spec.eval_set_digest)
        if isinstance(run, AccuracyRun):
            references = {u.id: u.reference for u in run.utterances}
            known = self._references[_without_condition(run)]
            if references not in known:
                known.append(references)

    def _known(self, run: Run) -> list[dict[str, str]] | None:
        """All references that are known of a run's set, joined where its utterances are."""
        name = _without_condition(run)
        base, joining = conditions.split(name)
        if joining and name not in self._references:
            with suppress(EvalSetError):
                if base in (shipped := evaluation_sets.shipped_sets()):
                    its = evaluation_sets.under_conditions(shipped[base], joining).utterances
                    self._references[name].append({u.id: u.reference for u in its})
        return self._references.get(name)

    def refusal(self, run: Run) -> str | None:
        """Why a run is not of the set that has its set's name here; None where it is, or none has.

        A speed run has no utterances, so the digest of its audio and references decides.
        """
        match run:
            case AccuracyRun():
                own = {u.id: u.reference for u in run.utterances}
                known = self._known(run)
                differs = bool(known) and own not in (known or [])
            case DivergenceRun():
                ids = {u.id for u in run.utterances} | set(run.left_out)
                known = self._known(run)
                differs = bool(known) and all(ids != one.keys() for one in known or [])
            case SpeedRun():
                digests = self._digests.get(run.eval_set)
                differs = bool(digests) and run.spec.eval_set_digest not in (digests or ())
            case SizeRun():
                differs = False
        if not differs:
            return None
        return (
            f"Its evaluation set “{run.eval_set}” has other references or recordings than the set"
            " of that name here. Give one of the two sets another name and measure it again."
        )


def _without_condition(run: Run) -> str:
    """The name of the set whose references a run has: noise and the like change the audio only."""
    return conditions.split_from_recordings(run.eval_set)[0]


def _refusal(run: Run) -> str | None:
    """Why a run is refused, whatever is in the store; None where it is not."""
    if run.created_at > utc_now() + _CLOCK_TOLERANCE:
        return "It was measured in the future. Correct that machine's clock and measure it again."
    if reason := _other_code(run):
        return reason
    return _unusable(run) if isinstance(run, AccuracyRun) else None


def _other_code(run: Run) -> str | None:
    """Why the run's recipe is not what it is in this WhisperQ."""
    spec, recipe = run.spec, run.spec.recipe
    its = spec.pipeline, spec.code_version
    ours = PIPELINE_VERSION, BACKENDS[recipe.backend].code_version
    if its != ours:
        versions = " where this WhisperQ has ".join("version {}.{}".format(*v) for v in (its, ours))
        return f"It was measured by other code of {recipe.name}: {versions}. {_OTHER_CODE}"
    known = CATALOGUE.get(recipe.name)
    if known and _definition(recipe) not in map(_definition, (known, known.with_tied_projection())):
        return f"The recipe {recipe.name} is another one in this WhisperQ. {_OTHER_CODE}"
    return None


def _definition(recipe: Recipe) -> dict[str, object]:
    """What a recipe is for all models: mixed formats of layers are the model's."""
    return {axis: value for axis, value in recipe.axes().items() if axis != "layers"}


def _unusable(run: AccuracyRun) -> str | None:
    """Why its utterances cannot be scored."""
    if len({u.id for u in run.utterances}) != len(run.utterances):
        return "It has an utterance twice: it was altered. Copy the original file again."
    for u in run.utterances:
        if max(len(u.reference), len(u.hypothesis)) > _MAX_CHARACTERS:
            return f"The texts of {u.id} have more than {_MAX_CHARACTERS} characters. Leave it out."
    return None


def _altered(run: AccuracyRun, current: AccuracyRun) -> str | None:
    """Why its errors cannot be what was counted; current: the run as it is scored now."""
    for u, now in zip(run.utterances, current.utterances, strict=True):
        counted_alike = u.score.normaliser == now.score.normaliser
        counts = ((one.score.words, one.score.characters) for one in (u, now))
        if counted_alike and next(counts) != next(counts):
            return (
                f"The errors of {u.id} are not those of its transcript: it was altered. Copy the"
                " original file again."
            )
    return None
