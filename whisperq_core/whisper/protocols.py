"""Protocols: how a model decodes and batches. A value, like a recipe, stored with each result."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from whisperq_core.errors import InputError

# What Python and the command line call the protocols.
ProtocolName = Literal["study", "corrected", "fitted", "merged"]


@dataclass(frozen=True)
class Protocol:
    """Decoding and batching of an evaluation; every field but the name changes a result.

    window: fixed-30s pads every utterance to Whisper's 30 s window; longer ones are transcribed
        window after window, guided by timestamps. fitted gives every utterance up to 30 s a window
        of its own: the speech and margin_s seconds of silence. What loops there is decoded again in
        the whole window. Longer ones are cut in pauses (see `long_recordings`).
    fold: with a fitted window, how many positions of the silence beyond the margin become one that
        counts as many in attention; None cuts that silence off.
    merge_at: with a fitted window, the part of the encoder's layers after which pairs of positions
        become one that counts twice; None for never.
    batch_size: utterances a batch; batches are formed by length, longest first.
    temperatures: 0 is greedy. Where there are more, a doubtful transcript is decoded again at the
        next one, as Whisper itself does, and what has no speech is left empty.
    language: None takes each utterance's own; recordings may be "auto", detected by the model.
    timestamps: whether segment times are decoded; with fixed-30s always so beyond 30 s.
    tied: whether proj_out is left tied to the token embeddings under every recipe.
    """

    name: str
    batch_size: int = 8
    beams: int = 1
    temperatures: tuple[float, ...] = (0.0,)
    window: str = "fixed-30s"
    task: str = "transcribe"
    language: str | None = None
    timestamps: bool = False
    tied: bool = False
    margin_s: float | None = None
    fold: int | None = None
    merge_at: float | None = None

    def identity(self) -> dict[str, Any]:
        """What a protocol adds to a result's identity: every field but labels.

        `tied` is one: what it does is in the recipe's modules. A field that came later counts where
        it says something, so that the keys of older results stay.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["name"], values["tied"]
        for later in ("margin_s", "fold", "merge_at"):
            if values[later] is None:
                del values[later]
        return values

    @property
    def label(self) -> str:
        """What readers see for its name."""
        return protocol_label(self.name)

    @property
    def is_fitted(self) -> bool:
        """Whether the window follows the length of the speech."""
        return self.window == "fitted"

    @property
    def has_fallback(self) -> bool:
        """Whether a doubtful transcript is decoded again."""
        return len(self.temperatures) > 1

    @property
    def held_out_only(self) -> bool:
        """Whether recipes that calibrate on the evaluated speech are refused.

        The study made both choices, and the corrected protocol neither: one field says it.
        """
        return self.tied

    @property
    def summary(self) -> str:
        """The protocol in a few words."""
        decoding = "greedy"
        if self.has_fallback:
            decoding += (
                f", temperature fallback up to {self.temperatures[-1]:g}, no-speech detection"
            )
        window = "fixed 30 s window"
        if self.is_fitted:
            silence = f"silence folded by {self.fold}" if self.fold else "silence cut"
            window = f"window fitted to the speech plus {self.margin_s:g} s, {silence}"
            if self.merge_at:
                window += f", positions merged after {self.merge_at:.0%} of the encoder"
        tied = ", tied projection" if self.tied else ""
        return f"{decoding}, {window}, batches of {self.batch_size} sorted by length{tied}"

    @property
    def description(self) -> str:
        """How it decodes, where calibration comes from and how sizes count, for a page."""
        decoding = "Greedy decoding"
        if self.has_fallback:
            decoding += (
                ", repeated at rising temperatures where a transcript repeats itself or is"
                " improbable; where no speech is detected, the transcript is empty"
            )
        if self.is_fitted:
            decoding += (
                f", in a window as long as the speech plus {self.margin_s:g} s of silence instead"
                " of 30 s"
            )
            if self.fold:
                decoding += (
                    f"; beyond it, one encoder position represents {self.fold} positions of"
                    f" silence and is weighted as {self.fold} in attention"
                )
            if self.merge_at:
                decoding += (
                    f"; after {self.merge_at:.0%} of the encoder's layers, pairs of positions are"
                    " merged"
                )
            decoding += (
                "; a transcript that repeats itself is decoded again in the full 30 s window"
            )
        calibration = (
            "Static recipes calibrate on held-out audio only"
            if self.held_out_only
            else "Static recipes may calibrate on part of the evaluation set"
        )
        size = (
            "the output projection stays tied to the token embeddings, stored once in fp32"
            if self.tied
            else (
                "the output projection is untied where the library quantizes every layer, so the"
                " size includes both it and the token embeddings"
            )
        )
        return f"{decoding}. {calibration}; {size}."


STUDY = Protocol("as in the study")
CORRECTED = Protocol("corrected", temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), tied=True)
# Margin, fold and merging as `python -m benchmarks.window` found them on held-out speech.
FITTED = Protocol("fitted window", batch_size=16, window="fitted", margin_s=0.5, fold=32)
MERGED = replace(FITTED, name="merged window", merge_at=0.67)
SHORT_NAMES = {"study": STUDY, "corrected": CORRECTED, "fitted": FITTED, "merged": MERGED}
PROTOCOLS = {protocol.name: protocol for protocol in SHORT_NAMES.values()}
# What pages, reports and messages call them; records and URLs have their names.
_LABELS = {
    STUDY.name: "Study protocol",
    CORRECTED.name: "Corrected (Whisper's own fallback)",
    FITTED.name: "Fitted window",
    MERGED.name: "Merged window",
}


def protocol_named(name: str) -> Protocol:
    """The protocol that Python and the command line call so; InputError for one that is none."""
    if name not in SHORT_NAMES:
        raise InputError(f"There is no protocol {name!r}. There are: {', '.join(SHORT_NAMES)}.")
    return SHORT_NAMES[name]


# What follows the name of a protocol whose batches have another size.
_BATCHES_OF = ", batches of "


def with_batch_size(protocol: Protocol, size: int | None) -> Protocol:
    """The protocol with batches of another size and a name that says so; None leaves it as it is.

    Transcripts of a recipe whose activation range spans the batch (`Recipe.depends_on_batch`)
    depend on it; 1 is how single recordings are transcribed.
    """
    if size is None or size == protocol.batch_size:
        return protocol
    if size < 1:
        raise InputError("A batch has at least one utterance. Pass a batch size of 1 or more.")
    return replace(protocol, name=f"{protocol.name}{_BATCHES_OF}{size}", batch_size=size)


def protocol_label(name: str) -> str:
    """What readers see for the protocol of that stored name; an unknown one keeps its name."""
    base, batches, size = name.partition(_BATCHES_OF)
    return f"{_LABELS.get(base, base)}{batches}{size}"


def short_name(name: str) -> str:
    """What the command line calls the protocol of that name; an unknown one keeps its name.

    That of a protocol with batches of another size is the same: see `batch_size_of`.
    """
    base = name.partition(_BATCHES_OF)[0]
    return next((short for short, protocol in SHORT_NAMES.items() if protocol.name == base), name)


def batch_size_of(protocol: Protocol) -> int | None:
    """The size of its batches where that is not the one of the protocol of its short name."""
    usual = SHORT_NAMES.get(short_name(protocol.name))
    return None if usual is None or usual.name == protocol.name else protocol.batch_size
