"""One call of generate(): its tokens, their log-probabilities, and where the time went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from whisperq_core.whisper.torch_types import WhisperModule

if TYPE_CHECKING:
    from torch import Tensor


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
        after suppression, as Whisper defines it; empty unless requested.
    token_count: generated tokens of all rows and attempts, the ends included.
    first_token_s: from the start to the choice of the first token.
    attempts: the most that a window of long audio took; 1 without fallback.
    segments: of long audio, as start, end (seconds) and tokens, if requested by return_segments.
    """

    tokens: "Tensor"
    avg_logprobs: tuple[float, ...]
    token_count: int
    first_token_s: float
    attempts: int
    times: Times
    segments: tuple[tuple[float, float, list[int]], ...] = ()


def synchronize(device: str) -> None:
    """Waits until the device has finished all queued work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


@contextmanager
def timed(
    torch_model: WhisperModule, on_encoder_pass: Callable[[], None] = lambda: None
) -> Iterator[Times]:
    """Times the block and every pass of the encoder in it, the device synchronized around both.

    on_encoder_pass: called before each of these passes.
    """
    encoder, times = torch_model.model.encoder, Times()
    device = encoder.conv1.weight.device.type
    entered = 0.0

    def now() -> float:
        synchronize(device)
        return time.perf_counter()

    def enter(*_: Any) -> None:
        nonlocal entered
        on_encoder_pass()
        entered = now()

    def leave(*_: Any) -> None:
        times.encoder_s += now() - entered

    hooks = encoder.register_forward_pre_hook(enter), encoder.register_forward_hook(leave)
    start = now()
    try:
        yield times
        times.wall_s = now() - start
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class _Attempt:
    """One decoding of a batch, from its first step to its last.

    unfinished: rows without an end token so far. logprobs, counts: of each row's tokens, summed
    and counted. scores: those of the last step, from which its tokens will be chosen.
    """

    unfinished: "Tensor"
    logprobs: "Tensor"
    counts: "Tensor"
    steps: int = 0
    scores: "Tensor | None" = None

    def add(self, tokens: "Tensor", end_token: int) -> None:
        """Takes the tokens chosen at the last step; those after a row's first end do not count."""
        if self.scores is not None:
            logprobs = self.scores.gather(1, tokens[:, None])[:, 0] - self.scores.logsumexp(-1)
            self.logprobs += logprobs.where(self.unfinished, 0)
        self.unfinished = self.unfinished & (tokens != end_token)
        self.counts += self.unfinished


@dataclass
class _Recorder:
    """Follows one call of generate() by its events, and changes no score.

    generate() reports each window of long audio (`on_window`) and each step (`on_step`, as its last
    logits processor before sampling); each attempt at a window begins with a pass of the encoder
    (`on_encoder_pass`). Log-probabilities are of the last attempt. Not for beams, whose rows change
    places.
    """

    end_token: int
    device: str
    with_logprobs: bool
    start: float = field(default_factory=time.perf_counter)
    first_token_s: float | None = None
    token_count: "int | Tensor" = 0
    attempts: list[int] = field(default_factory=lambda: [0])
    _attempt: _Attempt | None = None

    def on_window(self, _progress: "Tensor") -> None:
        """A window of 30 s of long audio begins."""
        self.attempts.append(0)

    def on_encoder_pass(self) -> None:
        """The next step is the first of an attempt: a pass may also be for the language only."""
        self._attempt = None

    def on_step(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """The next token of each row is about to be chosen from the scores, (rows, vocabulary)."""
        if self.first_token_s is None:
            synchronize(self.device)
            self.first_token_s = time.perf_counter() - self.start
        attempt = self._attempt
        if attempt is None:
            self.attempts[-1] += 1
            rows = len(scores)
            attempt = _Attempt(scores.new_ones(rows).bool(), *scores.new_zeros(2, rows))
            self._attempt = attempt
        else:
            attempt.add(input_ids[:, -1], self.end_token)
        attempt.steps += 1
        self.token_count = self.token_count + attempt.unfinished.sum()
        attempt.scores = scores if self.with_logprobs else None
        return scores

    def average_logprobs(self, tokens: "Tensor") -> tuple[float, ...]:
        """Mean log-probability of each row, from what generate() returned, shape (rows, length).

        The last token is chosen after the last step, and an end is cut off what is returned. The
        divisor counts an end even for a row that was cut before it, as Whisper's does.
        """
        attempt = self._attempt
        assert attempt is not None, "generate() took no step"
        complete = tokens.shape[1] >= attempt.steps
        ends = tokens.new_full((len(tokens),), self.end_token)
        attempt.add(tokens[:, attempt.steps - 1] if complete else ends, self.end_token)
        return tuple((attempt.logprobs / (attempt.counts + 1)).tolist())


def generate(
    torch_model: WhisperModule,
    inputs: dict[str, Any],
    options: dict[str, Any],
    *,
    with_logprobs: bool = False,
) -> Generated:
    """Runs generate() once, timed. with_logprobs: for a batch of windows, not for long audio.

    Raises what generate() raises. Call it under no_grad.
    """
    device = inputs["input_features"].device.type
    end_token = torch_model.generation_config.eos_token_id
    recorder = _Recorder(end_token, device, with_logprobs)
    with timed(torch_model, recorder.on_encoder_pass) as times:
        recorder.start = time.perf_counter()
        output = torch_model.generate(
            **inputs,
            **options,
            logits_processor=[recorder.on_step],
            monitor_progress=recorder.on_window,
        )
    tokens: Tensor = output
    segments: tuple[tuple[float, float, list[int]], ...] = ()
    if inputs.get("return_segments"):
        tokens = output["sequences"]
        segments = tuple(
            (float(part["start"]), float(part["end"]), part["tokens"].tolist())
            for part in output["segments"][0]
        )
    return Generated(
        tokens=tokens,
        avg_logprobs=recorder.average_logprobs(tokens) if with_logprobs else (),
        token_count=int(recorder.token_count),
        first_token_s=recorder.first_token_s or 0.0,
        attempts=max(recorder.attempts),
        times=times,
        segments=segments,
    )
