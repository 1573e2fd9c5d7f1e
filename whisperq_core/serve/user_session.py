"""A user's side of the queue: their own work, recordings and sets, and the results that all share.

Where nobody logs in there is one side, and everybody is at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from whisperq_core.errors import InputError
from whisperq_core.evaluate.planner import PlannedRun
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.store import Store, UserStore
from whisperq_core.quantize import model_export
from whisperq_core.quantize.file_transcription import TranscriptionConfig
from whisperq_core.quantize.model_export import Manifest
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.serve.job_queue import Job, JobQueue
from whisperq_core.serve.recording_store import Recording
from whisperq_core.serve.tasks import TranscriptionTask
from whisperq_core.serve.user_sets import UserSets
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

        Without a login these are everybody's, but for transcriptions: a recording is nobody else's.
        """
        return [
            job
            for job in self.queue.all()
            if job.owner == self.owner
            or not (self.is_private or isinstance(job.task, TranscriptionTask))
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
                if request.eval_set not in own and not is_public(request.eval_set):
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

    def transcribe(self, recording: Recording, config: TranscriptionConfig) -> Job:
        """Queues the transcription of one recording by one configuration."""
        if config.recipe is None:
            self.exported_model(config.model)
        elif self.is_private:
            _refuse_folder(config.model)
        return self.queue.transcribe(recording, config, self.owner, self.store)

    def transcription_job(self, id: str, key: str) -> Job | None:
        """The last job for a recording and a configuration's key."""
        return self.queue.transcription_job(id, key, self.store)

    def export(self, model: str, recipe: Recipe, device: str, protocol: Protocol) -> Job:
        """Queues the export of a model."""
        return self.queue.export(model, recipe, device, protocol, self.who, self.owner, self.store)


def _refuse_folder(model: str) -> None:
    if model_sources.find(model).kind == "folder":
        raise InputError(f"{model} is a folder. {_NO_FOLDERS}")
