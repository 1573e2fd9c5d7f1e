"""One call of generate(): the tokens it chose, how likely they were, and where the time went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Times:
    """Wall time in seconds, and the part of it inside the encoder."""

    wall_s: float = 0.0
    encoder_s: float = 0.0


@dataclass(frozen=True)
class Generated:
    """What one call of generate() did for a batch.

    tokens: shape (batch, length), padded with the end token, without prompt.
    avg_logprobs: mean log-probability of each row's tokens, the end included, at temperature 1 and
        after suppression, as Whisper defines it; empty where they were not asked for.
    chosen: generated tokens of all rows and attempts, the ends included.
    first_token_s: from the start to the choice of the first token.
    attempts: the most that a window of long audio took; 1 without fallback.
    segments: of long audio, as start, end (seconds) and tokens, if asked for by return_segments.
    """

    tokens: "Tensor"
    avg_logprobs: tuple[float, ...]
    chosen: int
    first_token_s: float
    attempts: int
    times: Times
    segments: tuple[tuple[float, float, list[int]], ...] = ()


def synchronize(device: str) -> None:
    """Waits until the device has done what was asked of it."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


@contextmanager
def timed(torch_model: "nn.Module") -> Iterator[Times]:
    """Times the block and every pass of the encoder in it, the device synchronised around both."""
    encoder, times = torch_model.model.encoder, Times()
    device = encoder.conv1.weight.device.type
    entered = 0.0

    def now() -> float:
        synchronize(device)
        return time.perf_counter()

    def enter(*_) -> None:
        nonlocal entered
        entered = now()

    def leave(*_) -> None:
        times.encoder_s += now() - entered

    hooks = encoder.register_forward_pre_hook(enter), encoder.register_forward_hook(leave)
    start = now()
    try:
        yield times
        times.wall_s = now() - start
    finally:
        for hook in hooks:
            hook.remove()


class _Recorder:
    """Watches generate() as its last logits processor before sampling, and changes no score.

    Long audio makes it generate several sequences one after the other; log-probabilities are of
    the last. Not for beams, whose rows change places.
    """

    def __init__(self, end: int, device: str, with_logprobs: bool):
        self.end, self.device, self.with_logprobs = end, device, with_logprobs
        self.start = time.perf_counter()
        self.first_token_s = 0.0
        self.chosen = 0
        self.attempts = [0]
        self._length = self._scores = None

    def new_window(self, _progress: "Tensor") -> None:
        """Called by generate() before each window of 30 s."""
        self.attempts.append(0)

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        if self._length is None:
            synchronize(self.device)
            self.first_token_s = time.perf_counter() - self.start
        if input_ids.shape[1] - 1 == self._length:
            self._take(input_ids[:, -1])
        else:
            self._begin(scores)
        self._length = input_ids.shape[1]
        self._steps += 1
        self.chosen = self.chosen + self._unfinished.sum()
        self._scores = scores if self.with_logprobs else None
        return scores

    def _begin(self, scores: "Tensor") -> None:
        self.attempts[-1] += 1
        self._steps = 0
        self._unfinished = scores.new_ones(len(scores)).bool()
        self._sums, self._counts = scores.new_zeros(2, len(scores))

    def _take(self, tokens: "Tensor") -> None:
        """The tokens chosen from the last scores; those after a row's first end do not count."""
        if self._scores is not None:
            chosen = self._scores.gather(1, tokens[:, None])[:, 0] - self._scores.logsumexp(-1)
            self._sums += chosen.where(self._unfinished, 0)
        self._unfinished = self._unfinished & (tokens != self.end)
        self._counts += self._unfinished

    def averages(self, tokens: "Tensor") -> tuple[float, ...]:
        """Mean log-probability of each row, given what generate() returned.

        The last token is chosen after the last call, and an end is cut off what is returned. The
        divisor counts an end even for a row that was cut before it, as Whisper's does.
        """
        complete = tokens.shape[1] >= self._steps
        last = tokens[:, self._steps - 1] if complete else tokens.new_full((len(tokens),), self.end)
        self._take(last)
        return tuple((self._sums / (self._counts + 1)).tolist())


def generate(
    torch_model: "nn.Module", inputs: dict, options: dict, *, with_logprobs: bool = False
) -> Generated:
    """Runs generate() once, timed and watched. with_logprobs: for a batch of windows, not beyond.

    Raises what generate() raises. To be called under no_grad.
    """
    device = inputs["input_features"].device.type
    end = torch_model.generation_config.eos_token_id
    with timed(torch_model) as times:
        recorder = _Recorder(end, device, with_logprobs)
        made = torch_model.generate(
            **inputs, **options, logits_processor=[recorder], monitor_progress=recorder.new_window
        )
    tokens, segments = made, ()
    if inputs.get("return_segments"):
        tokens = made["sequences"]
        segments = tuple(
            (float(part["start"]), float(part["end"]), part["tokens"].tolist())
            for part in made["segments"][0]
        )
    return Generated(
        tokens=tokens,
        avg_logprobs=recorder.averages(tokens) if with_logprobs else (),
        chosen=int(recorder.chosen),
        first_token_s=recorder.first_token_s,
        attempts=max(recorder.attempts),
        times=times,
        segments=segments,
    )
