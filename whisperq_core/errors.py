"""Every error that WhisperQ raises on purpose.

WhisperQError                what was wrong and what to do, in a sentence a user can read
├── InputError               something the user gave
│   ├── AudioError           unreadable, empty, too long, too large
│   └── EvalSetError         a manifest, a folder or a download that is not an evaluation set
├── ModelError               a model's name, its weights or its folder
│   ├── ModelUnavailable     not here, and the hub cannot be reached
│   └── ExportError          an exported model that was cut or altered, or cannot be written
├── RecipeError              a recipe that does not exist
│   ├── RecipeUnsupported    not on this device
│   └── LibraryMissing       its package is not installed
├── StoreError               a record that cannot be read or written
│   └── SchemaTooNew         written by a newer WhisperQ
├── ClusterError             a scheduler or a worker that cannot be used
├── NotComparable            two runs that are not of the same speech
└── Cancelled                the user stopped the work; what was finished is kept
"""


class WhisperQError(Exception):
    """Base class; `str(error)` is a sentence for the user."""


class InputError(WhisperQError):
    """Something that the user gave cannot be used."""


class AudioError(InputError):
    """The audio is unreadable, empty, too long or too large."""


class EvalSetError(InputError):
    """A manifest, a folder or a download is not a usable evaluation set."""


class ModelError(WhisperQError):
    """A model's name, weights or folder cannot be used."""


class ModelUnavailable(ModelError):
    """The model is not on this machine and the hub cannot be reached."""


class ExportError(ModelError):
    """An exported model was cut, altered or made by a newer WhisperQ, or cannot be written."""


class RecipeError(WhisperQError):
    """There is no such recipe."""


class RecipeUnsupported(RecipeError):
    """The recipe cannot run on this device."""


class LibraryMissing(RecipeError):
    """The recipe's library is not installed."""


class StoreError(WhisperQError):
    """A result cannot be read or written."""


class SchemaTooNew(StoreError):
    """The record was written by a newer version of WhisperQ."""


class ClusterError(WhisperQError):
    """A scheduler cannot be reached or trusted, or its workers are not fit for the work."""


class NotComparable(WhisperQError):
    """Two runs cannot be compared."""


class Cancelled(WhisperQError):
    """The user stopped the work; finished pieces are kept."""
