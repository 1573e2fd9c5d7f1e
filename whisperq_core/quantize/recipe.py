"""A recipe: what is quantized, and how. Pure data; no library is imported here.

The axes of the study are fields (method, granularity, weights, scheme) or follow from them (bits).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

# Bits of a stored weight in each number format; of a mixture there is no one number.
BITS = {
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "int8": 8,
    "float8": 8,
    "int6": 6,
    "int5": 5,
    "int4": 4,
    "nf4": 4,
    "fp4": 4,
    "int3": 3,
    "int2": 2,
}

Scheme = Literal["none", "weight-only", "dynamic", "static"]
Method = Literal["none", "symmetric", "asymmetric"]
Granularity = Literal["none", "tensor", "channel", "group"]
ActivationGranularity = Literal["none", "tensor", "row", "group"]
Calibration = Literal["none", "held-out", "evaluation-10%"]
Device = Literal["cpu", "cuda", "mps"]

# Every nn.Linear but the output projection, which stays tied to the token embeddings.
NOT_PROJ_OUT = "linear-but-proj_out"

# Fields that came after results were stored, and what they are where they say nothing.
_DEFAULTS_OF_NEW_FIELDS = {
    "rest": "fp32",
    "attention": "fp32",
    "smaller_pct": None,
    "layers": (),
    "full_range": False,
    "compute": "fp32",
    "compiled": False,
}

# Families of recipes.
NOT_QUANTIZED = "not quantized"
IN_PYTORCH = "quantized in PyTorch"
OTHER_RUNTIMES = "other runtimes"


@dataclass(frozen=True)
class Recipe:
    """One way of quantizing a Whisper model.

    scheme: how activations are treated. weight-only leaves them in floating point (what the study
        calls dynamic for Quanto, HQQ and bitsandbytes); dynamic scales them at run time; static
        uses scales from calibration.
    method, granularity, group_size: of the weights.
    activations, activation_granularity: number format of the Linear layers' inputs, and what shares
        one scale: the whole tensor, that is the batch; each row, that is each token; each group.
    calibration: the speech that static scales, or the rounding of mixed weights, are fitted to:
        held-out (dev-clean excerpt) or evaluation-10% (a random tenth of the evaluated data, as in
        the study).
    modules: which modules are quantized. all-linear is every nn.Linear, proj_out untied from the
        token embeddings: what PyTorch and Quanto do when called directly. linear-but-proj_out
        leaves the tied output projection alone, as HQQ and bitsandbytes do through Transformers.
        Both are what the study's published sizes imply, library by library (see
        study/published.py).
        whole-model also quantizes the token embeddings, in place: one table serves embed_tokens and
        proj_out.
    embeddings: number format of the token embeddings.
    rest: number format in which convolutions and positions are stored.
    attention: number format of attention's products, where the recipe chooses it.
    smaller_pct: with mixed weights, how much smaller than fp32 the stored model has to be, in
        percent. Which layer gets which format for it differs from model to model.
    layers: module and number format of each layer of a certain model, with mixed weights; empty
        until the model is known (see sensitivity_results.py).
    full_range: whether activations use all 8 bits where the backend's default is a reduced range.
    compute: number format in which a quantized model stores and computes everything that is not
        quantized.
    compiled: whether layers are compiled and a decoder step is one CUDA graph over a static cache
        (see whisper/static_decoder.py). Greedy decoding only.
    """

    name: str
    backend: str
    description: str
    weights: str
    scheme: Scheme
    method: Method = "symmetric"
    granularity: Granularity = "channel"
    group_size: int | None = None
    activations: str = "float"
    activation_granularity: ActivationGranularity = "none"
    double_quant: bool = False
    calibration: Calibration = "none"
    modules: str = "all-linear"
    embeddings: str = "fp32"
    rest: str = "fp32"
    attention: str = "fp32"
    smaller_pct: int | None = None
    layers: tuple[tuple[str, str], ...] = ()
    full_range: bool = False
    compute: str = "fp32"
    compiled: bool = False
    devices: tuple[Device, ...] = ("cpu", "cuda", "mps")

    @property
    def bits(self) -> int | None:
        """Bits of a stored weight; None where layers differ in it."""
        return BITS.get(self.weights)

    @property
    def activation_bits(self) -> int | None:
        """Bits of quantized activations that are in use; None in floating point."""
        # Backends declare their recipes with this class, so it cannot import them first.
        from whisperq_core.quantize.backends.registry import BACKENDS

        bits = BITS.get(self.activations)
        reduced = BACKENDS[self.backend].reduced_range and not self.full_range
        return bits - 1 if bits and reduced else bits

    @property
    def depends_on_batch(self) -> bool:
        """Whether one activation range spans the batch, so that neighbours change a transcript."""
        return self.scheme == "dynamic" and self.activation_granularity == "tensor"

    @property
    def calibrates(self) -> bool:
        """Whether quantizing runs the model on calibration speech, which takes a minute or more."""
        return self.calibration != "none"

    @property
    def batch_note(self) -> str:
        """What readers have to know where `depends_on_batch`; empty elsewhere."""
        if not self.depends_on_batch:
            return ""
        return (
            "One activation range spans the batch, so the other utterances of a batch change a"
            " transcript. Single recordings are transcribed in batches of 1."
        )

    @property
    def is_baseline(self) -> bool:
        """Whether nothing is quantized."""
        return self.scheme == "none"

    @property
    def has_own_runtime(self) -> bool:
        """Whether it runs outside PyTorch, in what a user might pick instead."""
        # Backends declare their recipes with this class, so it cannot import them first.
        from whisperq_core.quantize.backends.registry import BACKENDS

        return BACKENDS[self.backend].is_runtime

    @property
    def family(self) -> str:
        """Not quantized, quantized in PyTorch, or another runtime, quantized or not."""
        if self.has_own_runtime:
            return OTHER_RUNTIMES
        return NOT_QUANTIZED if self.is_baseline else IN_PYTORCH

    def with_tied_projection(self) -> "Recipe":
        """The same recipe with proj_out tied to the token embeddings, whatever its library does."""
        untied = self.modules == "all-linear"
        return replace(self, modules=NOT_PROJ_OUT) if untied else self

    def with_layers(self, formats: Mapping[str, str]) -> "Recipe":
        """The same recipe with these formats of a certain model's layers, by module."""
        return replace(self, layers=tuple(formats.items()))

    def axes(self) -> dict[str, Any]:
        """Everything that changes what the recipe computes: its part of a result's identity.

        A field that came later counts where it says something, so that older keys stay.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for label in ("name", "description", "devices"):
            del values[label]
        for later, silent in _DEFAULTS_OF_NEW_FIELDS.items():
            if values[later] == silent:
                del values[later]
        return values
