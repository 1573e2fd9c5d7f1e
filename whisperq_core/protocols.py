"""Protocols: how a model is made to transcribe. A value, like a recipe, beside each number."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """Decoding and batching of an evaluation; every field is part of a result's identity.

    window: fixed-30s pads every utterance to Whisper's 30 s window; longer ones are transcribed
        window after window, guided by timestamps.
    batch_size: utterances a batch; batches are formed by length, longest first.
    language: None takes each utterance's own; recordings may be "auto", detected by the model.
    timestamps: whether segment times are decoded; always so beyond 30 s.
    """

    name: str
    batch_size: int = 8
    beams: int = 1
    temperatures: tuple[float, ...] = (0.0,)
    window: str = "fixed-30s"
    task: str = "transcribe"
    language: str | None = None
    timestamps: bool = False

    @property
    def summary(self) -> str:
        """The protocol in a few words."""
        return f"greedy, fixed 30 s window, batches of {self.batch_size} sorted by length"


STUDY = Protocol("as in the study")
PROTOCOLS = {STUDY.name: STUDY}
