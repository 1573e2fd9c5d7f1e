"""Sensitivity of each layer of a model to quantization, on which mixed recipes are based.

    <cache>/sensitivity/<model>_<key>.json   one measurement (sensitivity_measurement.py makes it)

Loss is disagreement with fp32 on held-out speech: the mean Kullback-Leibler divergence of the
next token's distribution, in nats per token, where both models decode fp32's transcript
(teacher forcing) and one layer alone is quantized.
"""

import hashlib
import json
import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from whisperq_core import settings
from whisperq_core.errors import RecipeUnsupported, StoreError
from whisperq_core.file_storage import check_json, read_file, write_atomically
from whisperq_core.machine import Machine
from whisperq_core.quantize.bit_allocation import Choice, allocate, stored_bytes
from whisperq_core.quantize.recipes import Recipe

# The layout of the file; raise it when fields change.
SCHEMA = 1
# Of the code that measures, the rounding of weights included. Raise it when a change can change a
# loss; `conditions_of` passes it. The faster GPTQ of November 2026 did not: its codes are the same
# but for 4 in 10 million of the token embeddings.
CODE_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FormatLoss(_Frozen):
    """Loss against fp32 in nats per token, and the share (0 to 1) of top-1 tokens that changed."""

    nats: float
    changed: float


class LayerLosses(_Frozen):
    """One layer, its weight's shape, and its loss by format, with all other layers in fp32."""

    module: str
    rows: int
    columns: int
    losses: dict[str, FormatLoss]


class AdditivityCheck(_Frozen):
    """A whole model with many layers quantized: the sum of its layers' losses, and its own.

    Not held out from the solver: both are measured on the utterances whose losses chose the
    formats, so it tells whether losses add up there, not what other speech would lose.
    smaller_pct: than fp32, as serialized.
    """

    name: str
    smaller_pct: float
    predicted_nats: float
    measured: FormatLoss


class Conditions(_Frozen):
    """Everything that can change the losses.

    speech_digest: of the speech they are measured on. calibration_digest: of the speech that
    weights are rounded for. margin_s: seconds of silence kept after the speech of each utterance;
    the rest of Whisper's 30 s window is cut. versions: of libraries. code_version: of the code that
    measures; see CODE_VERSION.
    """

    weights_digest: str
    speech_digest: str
    calibration_digest: str
    margin_s: float
    formats: tuple[str, ...]
    group_size: int
    versions: dict[str, str]
    code_version: int = 1

    @property
    def key(self) -> str:
        """The first 16 hex digits of the sha256 of the canonical JSON of every field.

        The first code version is left out, since older measurements do not have it.
        """
        fields = self.model_dump(mode="json")
        if self.code_version == 1:
            del fields["code_version"]
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Sensitivity(_Frozen):
    """A measurement of every layer.

    utterances: ids of the speech. tokens: next-token distributions compared. fp32_bytes: of the
    model serialized in fp32; rest_bytes: of all of a mixed model but its quantized weights.
    measured_s: seconds taken.
    """

    schema_version: int = SCHEMA
    conditions: Conditions
    model: str
    eval_set: str
    utterances: tuple[str, ...]
    tokens: int
    created_at: datetime
    machine: Machine
    measured_s: float
    fp32_bytes: int
    rest_bytes: int
    layers: tuple[LayerLosses, ...]
    checks: tuple[AdditivityCheck, ...]

    @property
    def slug(self) -> str:
        """A readable file name that ends in the key."""
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", self.model)[-40:].strip("-.")
        return f"{name}_{self.conditions.key}"

    def choices(self) -> list[Choice]:
        """What each layer may be stored as, with bytes and nats."""
        size = self.conditions.group_size
        return [
            Choice(
                layer.module,
                {
                    name: stored_bytes(name, layer.rows, layer.columns, size)
                    for name in layer.losses
                },
                {name: loss.nats for name, loss in layer.losses.items()},
            )
            for layer in self.layers
        ]

    def formats_for(self, smaller_pct: float) -> dict[str, str]:
        """The format of each module for a model that much smaller than fp32, in percent.

        Raises RecipeUnsupported where it cannot be so small.
        """
        budget = int(self.fp32_bytes * (1 - smaller_pct / 100)) - self.rest_bytes
        return allocate(self.choices(), budget)

    def predicted_nats(self, formats: dict[str, str]) -> float:
        """The sum of the layers' losses in these formats."""
        return sum(layer.losses[formats[layer.module]].nats for layer in self.layers)

    def smaller_pct(self, formats: dict[str, str]) -> float:
        """How much smaller than fp32 the model is with these formats, in percent."""
        weights = sum(choice.sizes[formats[choice.module]] for choice in self.choices())
        return 100 * (1 - (weights + self.rest_bytes) / self.fp32_bytes)


def store_measurement(sensitivity: Sensitivity) -> Path:
    """Stores a measurement in the cache."""
    path = settings.current().cache / "sensitivity" / f"{sensitivity.slug}.json"
    write_atomically(path, sensitivity.model_dump_json(indent=1))
    return path


def stored_measurements() -> list[Sensitivity]:
    """The measurements of this cache and those that came with WhisperQ, oldest first.

    Files that cannot be read are left out.
    """
    roots = (settings.current().cache, settings.SHIPPED_CACHE)
    folders = dict.fromkeys(root / "sensitivity" for root in roots)
    paths = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    by_key: dict[str, Sensitivity] = {}
    for path in paths:
        try:
            one = _read(path, path.stat().st_mtime_ns)
        except (OSError, StoreError):
            continue
        by_key.setdefault(one.conditions.key, one)
    return sorted(by_key.values(), key=lambda one: one.created_at)


@lru_cache(maxsize=64)
def _read(path: Path, stamp: int) -> Sensitivity:
    try:
        content = read_file(path)
        check_json(content)
        return Sensitivity.model_validate_json(content)
    except ValueError as error:
        raise StoreError(
            f"{path.name} is not a measurement of layer sensitivities, or was altered."
        ) from error


def with_measured_layers(recipe: Recipe, weights_digest: str) -> Recipe:
    """The recipe with a format for each layer of the model with these weights.

    One that needs no map, or has it, is returned as it is. The newest measurement counts.
    Raises RecipeUnsupported where the model's layers were not measured or cannot be so small.
    """
    if recipe.smaller_pct is None or recipe.layers:
        return recipe
    measurements = [
        one for one in stored_measurements() if one.conditions.weights_digest == weights_digest
    ]
    if not measurements:
        raise RecipeUnsupported(
            f"{recipe.name} needs the sensitivity of each layer of this model. Measure it once:"
            " python -m whisperq_core sensitivity --models <model>"
        )
    return recipe.with_layers(_map(measurements[-1].conditions.key, recipe.smaller_pct))


@lru_cache(maxsize=64)
def _map(key: str, smaller_pct: float) -> dict[str, str]:
    """Solved once: pages ask for it at every look."""
    one = next(one for one in stored_measurements() if one.conditions.key == key)
    return one.formats_for(smaller_pct)
