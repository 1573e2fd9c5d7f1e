"""`whisperq download`: a LibriSpeech split from OpenSLR."""

import sys
from typing import Annotated, Literal

import typer

from whisperq_core.speech import evaluation_sets, librispeech


def download(
    split: Annotated[
        Literal["test-clean", "test-other"],
        typer.Argument(metavar="SPLIT", help="test-clean or test-other."),
    ],
) -> None:
    """Download a LibriSpeech split from OpenSLR. Each is about 340 MB."""

    def progress(done: int, total: int) -> None:
        print(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB ", end="", file=sys.stderr, flush=True)

    folder = librispeech.data_folder()
    eval_set = evaluation_sets.download_librispeech(split, folder, progress)
    print(f"\n{split}: {len(eval_set.utterances)} utterances in {folder}")
