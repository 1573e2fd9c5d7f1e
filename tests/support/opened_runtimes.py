"""Runtimes other than PyTorch that several tests use: exporting a model takes half a minute."""

import io
from contextlib import redirect_stderr, redirect_stdout

from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import recipe
from whisperq_core.whisper.models import Model


class OpenedRuntimes:
    """A model in the runtimes of recipes, by name; each is opened when a test first wants it.

    printed: what opening them wrote to the terminal. threads: of each of them, as of the shipped
    results.
    """

    threads = 2

    def __init__(self, model: Model):
        self._model, self.printed = model, ""
        self._opened: dict[str, backends.Quantized] = {}

    def __getitem__(self, name: str) -> backends.Quantized:
        if name not in self._opened:
            import torch

            written, before = io.StringIO(), torch.get_num_threads()
            torch.set_num_threads(self.threads)
            with redirect_stdout(written), redirect_stderr(written):
                self._opened[name] = backends.open_runtime(self._model, recipe(name))
            torch.set_num_threads(before)
            self.printed += written.getvalue()
        return self._opened[name]
