"""Immutable results: in the cache on this machine, or at a URL that several machines share.

    cache/results/<slug>_<key>.json   a finished run; its presence means complete
    cache/pieces/<key>/<name>.json    what is finished of a run that goes on, or was interrupted
    cache/notes/<time>_<id>.json      readers' notes on runs, see `notes`

Runs and pieces end with the sha256 of the rest, so that what was cut or altered counts as not
there; results of older versions have none. Everything is written to a temporary name and renamed,
or as one object, so a reader sees a whole file or none, and two writers of one piece write the same
thing. Nothing is locked.
"""

import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from whisperq_core import settings
from whisperq_core.derived_values import DerivedValues
from whisperq_core.errors import StoreError
from whisperq_core.evaluate import run_summaries
from whisperq_core.evaluate.notes import NOTES_FOLDER, Note, Notes
from whisperq_core.evaluate.notes import current as current_notes
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run, parse
from whisperq_core.evaluate.run_summaries import RecordText
from whisperq_core.evaluate.speakers import SetSpeakers, speakers_of_own_sets, with_speakers
from whisperq_core.file_storage import FileStamp, Folder, open_folder
from whisperq_core.memory import without_garbage_collection
from whisperq_core.speech import conditions

USERS_FOLDER = "users"
RESULTS_FOLDER = "results"
_VERSIONS = itertools.count(1)
_SEAL = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n}\s*\Z')
_SEAL_BYTES = 200  # at most, white space after it included
_RESULT = re.compile(r".+_([0-9a-f]{16})\.json")


class Store:
    """Results and pieces.

    root: the cache folder, also of everything else that is stored; by default WHISPERQ_CACHE or
    cache/.
    location: of results and pieces, a folder or a URL (see `file_storage`); by default
    WHISPERQ_RESULTS, or the cache. derived: what is slow to derive from results, in the cache.
    """

    def __init__(self, root: Path | str | None = None, location: str | None = None):
        current = settings.current()
        self.root = Path(root or current.cache)
        self.location = location or current.results or str(self.root.absolute())
        self.derived = DerivedValues(self.root)
        self._folder = open_folder(self.location)
        self._results = self._folder.subfolder(RESULTS_FOLDER)
        self._notes = Notes(self._folder.subfolder(NOTES_FOLDER))
        self._parsed: dict[str, tuple[FileStamp | None, Run]] = {}
        self._unreadable: dict[str, str] = {}
        self._listed: dict[str, FileStamp] = {}
        self._speakers: dict[str, SetSpeakers] = {}
        self._runs: list[Run] = []
        # One reader at a time: two sessions that open together would each read everything.
        self._reading = threading.Lock()
        # Of what `runs` returned last.
        self._version = 0

    @property
    def unreadable(self) -> dict[str, str]:
        """Why a file was left out of `runs`, by its name."""
        return self._unreadable

    @property
    def state(self) -> tuple[str | int, ...]:
        """Changes whenever `runs` returns something else; never that of an earlier store."""
        return str(self.root), self._version

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that unpickles the store reads the files itself.
        return Store, (self.root.absolute(), self.location)

    @property
    def results(self) -> Path:
        """The folder of finished runs, where it is on this machine."""
        return Path(str(self._results))

    def _pieces(self, key: str) -> Folder:
        return self._folder.subfolder("pieces", key)

    def keys(self) -> set[str]:
        """Keys of all finished runs, by file name."""
        names = (_RESULT.fullmatch(name) for name in self._results.json_names())
        return {match[1] for match in names if match}

    def get(self, key: str) -> Run | None:
        """The finished run of that key, or None; a damaged file counts as none."""
        for name in self._results.json_names():
            if name.endswith(f"_{key}.json"):
                run = self._load({name: self._results.file_stamp(name)})[name]
                if not isinstance(run, StoreError):
                    speakers = speakers_of_own_sets(self.root)
                    return _with_current_speakers(run, speakers, self._baseline_of)
        return None

    def _baseline_of(self, run: DivergenceRun) -> Run | None:
        return self.get(run.baseline_key)

    def runs(self) -> list[Run]:
        """All finished runs, oldest first; files that cannot be read are named in `unreadable`.

        Only files that changed are read again. Speakers are those that the user's own sets have
        now.
        """
        with self._reading, without_garbage_collection():
            files, speakers = self._results.file_stamps(), speakers_of_own_sets(self.root)
            if files != self._listed or speakers != self._speakers:
                loaded: dict[str, Run] = {}
                unreadable = {}
                for name, run in sorted(self._load(files).items()):
                    if isinstance(run, StoreError):
                        unreadable[name] = str(run)
                    else:
                        loaded[run.key] = run

                def baseline_of(run: DivergenceRun) -> Run | None:
                    return loaded.get(run.baseline_key)

                runs = [
                    _with_current_speakers(run, speakers, baseline_of) for run in loaded.values()
                ]
                # Replaced as a whole: another session may be reading them.
                self._runs = sorted(runs, key=lambda run: (run.created_at, run.key))
                self._unreadable = unreadable
                self._listed, self._speakers = files, speakers
                self._version = next(_VERSIONS)
            return list(self._runs)

    def _load(self, files: Mapping[str, FileStamp | None]) -> dict[str, Run | StoreError]:
        """The run in each file, or why it is none; files whose stamp is the same are not read."""
        runs: dict[str, Run | StoreError] = {}
        texts: dict[str, RecordText] = {}
        for name, stamp in files.items():
            if (parsed := self._parsed.get(name)) and parsed[0] == stamp:
                runs[name] = parsed[1]
                continue
            try:
                texts[name] = _read(self._results, name)
            except StoreError as error:
                runs[name] = error
        for name, run in run_summaries.read(texts, self.derived).items():
            try:
                valid = runs[name] = _named(name, run)
                self._parsed[name] = files[name], valid
            except StoreError as error:
                runs[name] = error
        return runs

    def put(self, run: Run) -> None:
        """Stores a finished run, then removes its pieces."""
        self._results.remove_stale_temporaries()
        name, sealed = f"{run.slug}.json", _sealed(run.model_dump_json(indent=1))
        self._results.write(name, sealed)
        # Summarized now, so that nobody has to wait until thousands of records are.
        run_summaries.read({name: _unsealed(sealed.encode())}, self.derived)
        self.drop_pieces(run.key)

    def drop_pieces(self, key: str) -> None:
        """Removes the pieces of a finished run."""
        self._pieces(key).remove()

    def every_note(self) -> list[Note]:
        """Every note that was ever made, oldest first: of several of one target the last counts."""
        return self._notes.all()

    def notes(self) -> list[Note]:
        """The notes that count, oldest first."""
        return current_notes(self.every_note())

    def add_note(self, note: Note, run: Run) -> None:
        """Stores a note on a run, or on one of its utterances, as its author's newest."""
        self._notes_on(run).add(note)

    def copy_note(self, note: Note, run: Run) -> None:
        """Stores a note that was made elsewhere as it is."""
        self._notes_on(run).copy(note)

    def _notes_on(self, run: Run) -> Notes:
        return self._notes

    def piece(self, key: str, name: str) -> dict[str, Any] | None:
        """A finished piece of a run as JSON, or None; a damaged one counts as none.

        `pieces.RunPieces` reads and writes typed ones.
        """
        try:
            content = json.loads(_unsealed(self._pieces(key).read(f"{name}.json")).text)
        except (OSError, ValueError, RecursionError, StoreError):
            return None
        return content if isinstance(content, dict) else None

    def put_piece(self, key: str, name: str, content: dict[str, Any]) -> None:
        """Stores a finished piece of a run."""
        self._pieces(key).write(f"{name}.json", _sealed(json.dumps(content, indent=1)))

    def count_pieces(self, key: str, prefix: str) -> int:
        """How many pieces whose name starts with prefix are finished."""
        return sum(name.startswith(prefix) for name in self._pieces(key).json_names())


def read_run(results: Folder, name: str) -> Run:
    """The run in a file of that folder.

    Raises SchemaTooNew for one of a newer WhisperQ, StoreError for what cannot be read, is no
    result, or was altered.
    """
    return _named(name, parse(_read(results, name).text))


def _read(results: Folder, name: str) -> RecordText:
    try:
        return _unsealed(results.read(name))
    except OSError as error:
        raise StoreError(f"It cannot be read ({error.strerror}).") from error


def _named(name: str, run: Run | StoreError) -> Run:
    """The run that was read from a file of this name."""
    if isinstance(run, StoreError):
        raise run
    if not name.endswith(f"_{run.key}.json"):
        raise StoreError("Its contents do not match its name: it was altered.")
    return run


class UserStore(Store):
    """The store of one of several users: results that all users share, and a folder of their own.

    is_shared: whether results on the evaluation set of that name, and notes on them, are shared, as
    those on public speech are. Results on a user's own speech, and everything else that is stored
    for the user (recordings, sets, history, pieces, exports), are below users/<user>/.
    """

    def __init__(self, shared: Store, user: str, is_shared: Callable[[str], bool]):
        self.shared, self.user, self.is_shared = shared, user, is_shared
        below = f"{USERS_FOLDER}/{user}"
        super().__init__(shared.root / below, f"{shared.location.rstrip('/')}/{below}")
        self.derived = DerivedValues(self.root, shared.derived)

    def __reduce__(self) -> tuple[Any, ...]:
        return UserStore, (self.shared, self.user, self.is_shared)

    @property
    def unreadable(self) -> dict[str, str]:
        """Why a file was left out of `runs`, by its name."""
        return self.shared.unreadable | self._unreadable

    @property
    def state(self) -> tuple[str | int, ...]:
        """That of the shared store, with that of the user's own results where there are any."""
        return self.shared.state + (super().state if self._listed else ())

    def keys(self) -> set[str]:
        """Keys of the shared runs and the user's own."""
        return self.shared.keys() | super().keys()

    def get(self, key: str) -> Run | None:
        """The shared run of that key, or the user's own, or None."""
        return self.shared.get(key) or super().get(key)

    def runs(self) -> list[Run]:
        """The shared runs and the user's own, oldest first."""
        return sorted(
            self.shared.runs() + super().runs(), key=lambda run: (run.created_at, run.key)
        )

    def put(self, run: Run) -> None:
        """Stores a finished run where it belongs, then removes its pieces."""
        if not self.is_shared(run.eval_set):
            super().put(run)
            return
        self.shared.put(run)
        self.drop_pieces(run.key)

    def every_note(self) -> list[Note]:
        """Every note on shared runs, by all users, and on the user's own."""
        return self.shared.every_note() + super().every_note()

    def _notes_on(self, run: Run) -> Notes:
        return self.shared._notes_on(run) if self.is_shared(run.eval_set) else self._notes


def _with_current_speakers(
    run: Run,
    speakers: dict[str, SetSpeakers],
    baseline_of: Callable[[DivergenceRun], Run | None],
) -> Run:
    own = speakers.get(conditions.split(run.eval_set)[0])
    if own is None:
        return run
    match run:
        case AccuracyRun():
            return with_speakers(run, own)
        case DivergenceRun():
            return with_speakers(run, own, baseline_of(run))
    return run


def _sealed(text: str) -> str:
    """A JSON object in lines, with the digest of itself as its last member."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    if not text.endswith("\n}"):
        return text  # an empty one
    body = text.removesuffix("\n}")
    return f'{body},\n "sha256": "{digest}"\n}}'


def _unsealed(data: bytes) -> RecordText:
    """The object without its digest; StoreError where it is not the digest of the rest."""
    seal = _SEAL.search(data, max(0, len(data) - _SEAL_BYTES))
    text = data if seal is None else data[: seal.start()] + b"\n}"
    digest = hashlib.sha256(text).hexdigest()
    if seal is not None and digest.encode() != seal[1]:
        raise StoreError("Its contents do not match its checksum: it was altered.")
    return RecordText(text, digest)
