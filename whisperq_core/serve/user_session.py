"""A user's side of the queue: their own work, recordings and sets, and the results that all share.

Where nobody logs in there is one side, and everybody is at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from whisperq_core.errors import InputError
from whisperq_core.evaluate.planner import PlannedRun
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.store import Store, UserStore
from whisperq_core.quantize import file_transcription, model_export
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.quantize.model_export import Manifest
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.serve.job_queue import Job, JobQueue
from whisperq_core.serve.recording_store import Recording
from whisperq_core.serve.tasks import DivergenceTask, TranscriptionTask
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import conditions
from whisperq_core.speech.evaluation_sets import is_public
from whisperq_core.whisper import model_sources
from whisperq_core.whisper.protocols import Protocol

_NO_FOLDERS = "With login required, folders on this machine cannot be used. Choose by name."


@dataclass(frozen=True)
class UserSession:
    """The queue as one user has it.

    store: theirs. owner: whose turn a job takes, see `Jobs`. who: for the history, where the user
    logged in.
    """

    queue: JobQueue
    store: Store
    owner: str
    who: str | None = None

    @property
    def is_private(self) -> bool:
        """Whether there are other users, who see nothing of this."""
        return isinstance(self.store, UserStore)

    def all(self) -> list[Job]:
        """The jobs that this user may see and stop, oldest first.

        Without a login these are everybody's, but for those of recordings.
        """
        return [
            job
            for job in self.queue.all()
            if job.owner == self.owner or not (self.is_private or job.task.is_private)
        ]

    def unfinished_jobs_of_others(self) -> int:
        """How many jobs of other users are not over."""
        own = {job.id for job in self.all()}
        return sum(not job.is_over and job.id not in own for job in self.queue.all())

    def plan(self, requests: Sequence[Request]) -> list[PlannedRun]:
        """What would become of each request.

        Raises InputError for speech or a model in a folder that is not the user's, where others
        have theirs on this machine.
        """
        if self.is_private:
            sets = UserSets(self.store.root)
            own = {sets.path_of(name) for name in sets.names()}
            for request in requests:
                base, _ = conditions.split(request.eval_set)
                if base not in own and not is_public(request.eval_set):
                    raise InputError(f"{request.eval_set} is not one of your sets. {_NO_FOLDERS}")
                _refuse_folder(request.model)
        return self.queue.plan(requests, self.store)

    def evaluate(self, planned: Sequence[PlannedRun]) -> list[Job]:
        """Queues what is to run; see `Jobs.evaluate`."""
        return self.queue.evaluate(planned, self.who, self.owner, self.store)

    def exported_models(self) -> dict[str, Manifest]:
        """The user's exported models, by folder."""
        return {
            str(path): manifest
            for path, manifest in model_export.exported_models(self.store.root).items()
        }

    def exported_model(self, folder: str) -> Manifest:
        """Any exported model; only one's own where there are other users."""
        manifests = self.exported_models()
        if self.is_private and folder not in manifests:
            raise InputError(f"{folder} is not one of your exported models. {_NO_FOLDERS}")
        return manifests.get(folder) or model_export.read(folder)

    def transcribe(
        self,
        pairs: Sequence[tuple[Recording, TranscriptionConfig]],
        baseline: TranscriptionConfig | None = None,
    ) -> list[Job]:
        """Queues the transcription of recordings by configurations, in this order.

        baseline: fp32 under the same settings. Once it is stored, too, the divergence from it is
        measured, where the recipe allows that.
        """
        for _, config in pairs:
            if config.recipe is None:
                self.exported_model(config.model)
            elif self.is_private:
                _refuse_folder(config.model)
        jobs = [self.queue.transcribe(*pair, self.owner, self.store) for pair in pairs]
        if baseline is not None:
            tasks = [
                DivergenceTask(recording, config, baseline, self.store)
                for recording, config in pairs
                if config != baseline and file_transcription.has_divergence(config)
            ]
            jobs += self.queue.submit(tasks, self.owner)
        return jobs

    def warm_up(self, config: TranscriptionConfig) -> None:
        """Loads a configuration's model in the background, before somebody waits for it."""
        self.queue.warm_up(config)

    def transcription_job(self, id: str, key: str) -> Job | None:
        """The last job for a recording and a configuration's key."""
        return self.queue.transcription_job(id, key, self.store)

    def recording_jobs(self, recordings: Sequence[Recording]) -> list[Job]:
        """The jobs for these recordings, oldest first, whoever queued them: a link shares them."""
        ids = {recording.id for recording in recordings}
        return [
            job
            for job in self.queue.all()
            if isinstance(job.task, TranscriptionTask | DivergenceTask)
            and job.task.recording.id in ids
            and job.task.store.root == self.store.root
        ]

    def export(self, model: str, recipe: Recipe, device: str, protocol: Protocol) -> Job:
        """Queues the export of a model."""
        return self.queue.export(model, recipe, device, protocol, self.who, self.owner, self.store)


def _refuse_folder(model: str) -> None:
    if model_sources.find(model).kind == "folder":
        raise InputError(f"{model} is a folder. {_NO_FOLDERS}")
