"""Protocols: how a model is made to transcribe. A value, like a recipe, beside each number."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Protocol:
    """Decoding and batching of an evaluation; every field but the name changes a result.

    window: fixed-30s pads every utterance to Whisper's 30 s window; longer ones are transcribed
        window after window, guided by timestamps. fitted cuts the window to the longest utterance
        of the batch plus margin_s seconds of silence.
    batch_size: utterances a batch; batches are formed by length, longest first.
    temperatures: 0 is greedy. Where there are more, a doubtful transcript is decoded again at the
        next one, as Whisper itself does, and what has no speech is left empty.
    language: None takes each utterance's own; recordings may be "auto", detected by the model.
    timestamps: whether segment times are decoded; always so beyond 30 s.
    tied: whether proj_out is left tied to the token table under every recipe.
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

    def identity(self) -> dict:
        """What a protocol adds to a result's identity: every field but labels.

        `tied` is one: what it does is in the recipe's modules. A field that came later counts where
        it says something, so that the keys of older results stay.
        """
        fields = asdict(self)
        del fields["name"], fields["tied"]
        if self.margin_s is None:
            del fields["margin_s"]
        return fields

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
            decoding += f", temperature fallback up to {self.temperatures[-1]:g}, silence left out"
        tied = ", tied projection" if self.tied else ""
        return f"{decoding}, fixed 30 s window, batches of {self.batch_size} sorted by length{tied}"

    @property
    def description(self) -> str:
        """How it decodes, where calibration comes from and how sizes count, for a page."""
        decoding = "Greedy decoding"
        if self.has_fallback:
            decoding += (
                ", tried again at rising temperatures where a transcript repeats itself or is"
                " improbable; what has no speech is left empty"
            )
        calibration = (
            "Static recipes calibrate on held-out speech only"
            if self.held_out_only
            else "Static recipes may calibrate on the evaluated speech"
        )
        size = (
            "the output projection stays tied to the token table, stored once in fp32"
            if self.tied
            else "the output projection is untied where the library quantizes every layer, so that"
            " the size counts it beside the token table"
        )
        return f"{decoding}. {calibration}; {size}."


STUDY = Protocol("as in the study")
CORRECTED = Protocol("corrected", temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), tied=True)
PROTOCOLS = {protocol.name: protocol for protocol in (STUDY, CORRECTED)}
# What the command line calls them.
SHORT_NAMES = {"study": STUDY, "corrected": CORRECTED}


def short_name(name: str) -> str:
    """What the command line calls the protocol of that name; an unknown one keeps its name."""
    return next((short for short, known in SHORT_NAMES.items() if known.name == name), name)
