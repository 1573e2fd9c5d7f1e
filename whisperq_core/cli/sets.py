"""`whisperq sets`: the shipped evaluation sets, and the user's own."""

from whisperq_core.evaluate.store import Store
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import evaluation_sets


def sets() -> None:
    """List the shipped evaluation sets, and your own."""
    for shipped in evaluation_sets.shipped_sets().values():
        print(f"{shipped.name:22s} {len(shipped.utterances):4d} utterances  {shipped.title}")
    own = UserSets(Store().root)
    for name in own.names():
        print(f"{name:22s} {len(own.rows(name)):4d} utterances  your own recordings")
