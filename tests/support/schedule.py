"""Which process runs a test: files stay whole, and those that take longest start first.

A fixture of a module is made once that way, and no process is left alone with a long test at the
end.
"""

from xdist.scheduler import LoadScopeScheduling

# Files that share what takes long to make, such as models exported for another runtime.
GROUPS = {
    "runtimes": (
        "tests/evaluate/test_shipped_transcripts.py",
        "tests/whisper/test_long_audio.py",
        "tests/whisper/test_runtime.py",
    ),
}
# By how long they take, the longest first; all others follow in their order.
LONGEST = (
    "runtimes",
    "tests/quantize/test_model_export.py",
    "tests/browser/test_journeys.py",
    "tests/quantize/test_backends.py",
    "tests/serve/test_job_queue.py",
    "tests/browser/test_accessibility.py",
    "tests/browser/test_login.py",
    "tests/evaluate/test_runner.py",
    "tests/browser/test_browser.py",
    "tests/test_docs.py",
)
_GROUP_OF = {file: group for group, files in GROUPS.items() for file in files}


def unit_of(nodeid: str) -> str:
    """The file of a test, or the group of its file."""
    file = nodeid.split("::", 1)[0]
    return _GROUP_OF.get(file, file)


def position(nodeid: str) -> int:
    """Where the test's file starts, among those of which the order matters."""
    unit = unit_of(nodeid)
    return LONGEST.index(unit) if unit in LONGEST else len(LONGEST)


class WholeFiles(LoadScopeScheduling):
    """xdist's scheduling by module, with groups of modules."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
