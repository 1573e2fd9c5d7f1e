"""`whisperq sets`: the shipped evaluation sets, and the user's own."""

from typing import Annotated

import typer

from whisperq_core.evaluate.store import Store
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import evaluation_sets, no_speech
from whisperq_core.speech.evaluation_sets import SetPreview


def sets(
    folder: Annotated[
        str | None,
        typer.Argument(metavar="FOLDER", help="A folder of recordings to preview as a set."),
    ] = None,
) -> None:
    """List the evaluation sets, or preview a folder. A preview shows what is read and skipped."""
    if folder is not None:
        eval_set = evaluation_sets.by_name(folder)
        print("\n".join([eval_set.name, *SetPreview.of(eval_set).sentences]))
        return
    for shipped in evaluation_sets.shipped_sets().values():
        print(f"{shipped.name:22s} {len(shipped.utterances):4d} utterances  {shipped.title}")
    for name in no_speech.SETS:
        silent = evaluation_sets.by_name(name)
        print(f"{name:22s} {len(silent.utterances):4d} recordings  {silent.title}")
    own = UserSets(Store().root)
    for name in own.names():
        print(f"{name:22s} {len(own.rows(name)):4d} utterances  your own recordings")
