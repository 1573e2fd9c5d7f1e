"""The kinds of work that a job can be: an evaluation, a recording's transcription, an export, …

A task says what is to be done, and submits a function of this module to worker processes, which
import it by name. Workers write the results to the store; what a function returns is small.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from whisperq_core.errors import InputError, WhisperQError
from whisperq_core.evaluate import history, planner, runner
from whisperq_core.evaluate.history import WorkItem
from whisperq_core.evaluate.planner import PlannedRun
from whisperq_core.evaluate.requests import Request, work_item
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import model_export, spoken_language
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.quantize.model_export import Manifest
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.serve import cluster
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import model_sources
from whisperq_core.whisper.protocols import STUDY, Protocol

# How often a slice is tried again after an error that may pass, such as an unreachable folder.
_RETRIES = 2


def stop_event(job_id: str) -> str:
    """Name of the Dask event that tells the functions of a job to stop."""
    return f"stop-{job_id}"


class Task(ABC):
    """One kind of work.

    store: where its results go. user_name: for the history; None is whoever runs the app.
    """

    store: Store
    user_name: str | None
    # Whether a cluster's workers can do it: they share the folder of results, not of recordings.
    runs_on_cluster: ClassVar[bool] = False
    # Whether only its owner sees it, also where nobody logs in: a recording is nobody else's.
    is_private: ClassVar[bool] = False

    @property
    @abstractmethod
    def label(self) -> str:
        """What the work is called in lists of jobs."""

    @property
    def work_item(self) -> WorkItem | None:
        """What the history says of it; None for work that the history leaves out."""
        return None

    @property
    def estimate_s(self) -> float:
        """Estimated seconds for all of it, before any is done; 0 where there is no estimate."""
        return 0.0

    def progress(self) -> tuple[int, int]:
        """Pieces of work that are finished, and their number in all."""
        return 0, 1

    @abstractmethod
    def submit(self, client: Any, job_id: str, on_cluster: bool = False) -> Any:
        """Hand the work to the workers of a Dask client; returns the future of its result."""


def _submit(client: Any, job_id: str, function: Callable[..., Any], *arguments: Any) -> Any:
    return client.submit(function, *arguments, key=f"whisperq-{job_id}", pure=False)


@dataclass(frozen=True, eq=False)
class EvaluationTask(Task):
    """A planned evaluation; its result is the key of the stored run."""

    planned: PlannedRun
    store: Store
    user_name: str | None = None
    runs_on_cluster = True

    @property
    def label(self) -> str:
        """Model, recipe and set."""
        return self.planned.request.label

    @property
    def work_item(self) -> WorkItem:
        """The evaluation as the history records it."""
        return work_item(self.planned.request)

    @property
    def estimate_s(self) -> float:
        """The plan's estimate."""
        return self.planned.estimate_s

    def progress(self) -> tuple[int, int]:
        """Batches or passes in the store, and in all."""
        return planner.stored_progress(self.planned, self.store)

    def submit(self, client: Any, job_id: str, on_cluster: bool = False) -> Any:
        """Submit it as one function, or on a cluster as slices and their assembly."""
        request = self.planned.request
        if not on_cluster:
            return _submit(client, job_id, _evaluate, request, self.store, job_id, self.user_name)
        options = {"resources": {cluster.DEVICE: 1}, "pure": False, "retries": _RETRIES}
        slices = [
            client.submit(
                *(_transcribe_slice, self.planned, batches, self.store, job_id),
                key=f"whisperq-{job_id}-{batches.start}",
                **options,
            )
            for batches in runner.batch_slices(self.planned)
        ]
        return client.submit(
            *(_assemble, request, self.store, job_id, slices), key=f"whisperq-{job_id}", **options
        )


@dataclass(frozen=True, eq=False)
class TranscriptionTask(Task):
    """A recording to transcribe; its result is a Transcription, which the store keeps, too.

    config_key: the configuration's key when the task was made; an exported model may change later.
    """

    recording: Recording
    config: TranscriptionConfig
    store: Store
    user_name: str | None = None
    config_key: str = field(init=False)
    is_private = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "config_key", self.config.key)

    @property
    def label(self) -> str:
        """Recording and recipe."""
        return f"{self.recording.name} · {self.config.name}"

    def is_of(self, recording_id: str, config_key: str, root: Path) -> bool:
        """Whether it is the transcription of this recording with this configuration."""
        own = (self.recording.id, self.config_key, self.store.root)
        return own == (recording_id, config_key, root)

    def submit(self, client: Any, job_id: str, on_cluster: bool = False) -> Any:
        """Submit it as one function."""
        root = self.store.root
        return _submit(client, job_id, _transcribe_recording, self.recording, self.config, root)


@dataclass(frozen=True, eq=False)
class DivergenceTask(Task):
    """How far a transcription's recipe is from fp32 on a recording; stored with the transcription.

    baseline: fp32 under the same settings. Both have to be transcribed before.
    """

    recording: Recording
    config: TranscriptionConfig
    baseline: TranscriptionConfig
    store: Store
    user_name: str | None = None
    is_private = True

    @property
    def label(self) -> str:
        """Recording and recipe."""
        return f"{self.recording.name} · {self.config.name}, divergence from fp32"

    def submit(self, client: Any, job_id: str, on_cluster: bool = False) -> Any:
        """Submit it as one function."""
        configs = self.config, self.baseline
        root = self.store.root
        return _submit(client, job_id, _measure_divergence, self.recording, *configs, root)


@dataclass(frozen=True, eq=False)
class ExportTask(Task):
    """A model to quantize and to export to the store's folder; its result is a Manifest."""

    model: str
    recipe: Recipe
    store: Store
    device: str = "cpu"
    protocol: Protocol = STUDY
    user_name: str | None = None

    @property
    def label(self) -> str:
        """Model and recipe."""
        return f"{self.model} · {self.recipe.name}"

    @property
    def folder(self) -> Path:
        """The exported model's folder."""
        name = model_export.folder_name(self.model, self.recipe, self.protocol)
        return self.store.root / model_export.FOLDER / name

    @property
    def work_item(self) -> WorkItem:
        """The export as the history records it."""
        return WorkItem(
            kind="export",
            model=self.model,
            recipe=self.recipe.name,
            protocol=self.protocol.name,
            device=self.device,
        )

    def submit(self, client: Any, job_id: str, on_cluster: bool = False) -> Any:
        """Submit it as one function."""
        return _submit(client, job_id, _export, self)


# In worker processes from here on.


def _is_stopped(job_id: str) -> Callable[[], bool]:
    import distributed

    event: Any = distributed.Event
    is_set: Callable[[], bool] = event(stop_event(job_id)).is_set
    return is_set


def _evaluate(request: Request, store: Store, job_id: str, user_name: str | None) -> str:
    with history.record(store.root, work_item(request), user_name) as entry:
        key = runner.run(request, store, stop=_is_stopped(job_id)).key
        entry.key = key
    return key


def _transcribe_slice(planned: PlannedRun, batches: range, store: Store, job_id: str) -> None:
    runner.transcribe_slice(planned, batches, store, _is_stopped(job_id))


def _assemble(request: Request, store: Store, job_id: str, slices: list[None]) -> str:
    """The result of an evaluation whose slices are in the store; Dask waits for them."""
    return runner.run(request, store, stop=_is_stopped(job_id)).key


def _transcribe_recording(
    recording: Recording, config: TranscriptionConfig, root: Path
) -> Transcription:
    from whisperq_core.quantize.file_transcription import transcribe_file

    recordings = RecordingStore(root)
    if recordings.get(recording.id) is None:
        raise InputError(f"{recording.name} was deleted before its turn. Upload it again.")
    _detect_language(recordings, recording, config)
    transcription = transcribe_file(recordings.original_path(recording.id), config, recording.name)
    recordings.put_transcription(recording.id, config, transcription)
    return transcription


def _measure_divergence(
    recording: Recording, config: TranscriptionConfig, baseline: TranscriptionConfig, root: Path
) -> None:
    from whisperq_core.quantize.file_transcription import measure_divergence

    recordings = RecordingStore(root)
    own, fp32 = (recordings.transcription(recording.id, one) for one in (config, baseline))
    if own is None or fp32 is None or own.divergence is not None:
        return  # one of them failed, or it was measured meanwhile
    path = recordings.original_path(recording.id)
    divergence = measure_divergence(path, config, fp32, recording.name)
    with_divergence = own.model_copy(update={"divergence": divergence})
    recordings.put_transcription(recording.id, config, with_divergence)


def warm_up(config: TranscriptionConfig) -> None:
    """Transcribe a shipped recording, so that libraries and model are in memory.

    Nothing for a model that would have to be downloaded.
    """
    from whisperq_core.quantize.file_transcription import transcribe_file

    with suppress(WhisperQError):  # the job that needs the model says why
        if config.recipe is not None and not model_sources.find(config.model).is_here:
            return
        transcribe_file(evaluation_sets.shipped_sets()["jfk"].utterances[0].audio, config)


def _detect_language(
    recordings: RecordingStore, recording: Recording, config: TranscriptionConfig
) -> None:
    """Detects the language once, where the configuration does not: it may be told the wrong one."""
    fixed = spoken_language.fixed_language(config)
    if fixed is None or recordings.spoken_language(recording.id) is not None:
        return
    with suppress(WhisperQError):  # a note about the transcript, not the transcript
        if detector := spoken_language.detector_for(config):
            path = recordings.original_path(recording.id)
            if spoken := spoken_language.detect(path, detector, recording.name):
                recordings.put_spoken_language(recording.id, spoken)


def _export(task: ExportTask) -> Manifest:
    with history.record(task.store.root, task.work_item, task.user_name):
        return model_export.export(task.model, task.recipe, task.folder, task.device, task.protocol)
