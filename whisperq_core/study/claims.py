"""The study's claims as data; `judge` computes their verdicts from the stored results.

A claim is a conjunction of statements, each checked by a measure.
"""

from dataclasses import dataclass

from whisperq_core.study.measures import (
    Measure,
    RelativeTime,
    RobustnessGapChange,
    SizeReduction,
    WerDifference,
)
from whisperq_core.study.ranking import RanksFirst


@dataclass(frozen=True)
class Claim:
    """A claim of the study, paraphrased.

    source: tables and sections of the study. models: that the claim is about. substitutes: the
    first of these that is measured is judged while none of those is. may_fail: how many measures
    may fail, for claims of "almost every". note: what limits the comparison. context: measures that
    the verdict does not depend on.
    """

    id: str
    statement: str
    source: str
    models: tuple[str, ...]
    measures: tuple[Measure, ...]
    substitutes: tuple[str, ...] = ()
    may_fail: int = 0
    note: str = ""
    context: tuple[Measure, ...] = ()


_SMALL = ("small",)
_ALL = ("small", "base", "tiny")
_SMALLER = ("base", "tiny")
# For small, the nearest in size first.
_SUBSTITUTES = ("base", "tiny")
_STATIC = "quanto-int8-float8-eval10"
_CALIBRATION_NOTE = (
    "The study calibrated on a tenth of the evaluated speech, which flatters a static recipe. So"
    " damage under such calibration counts, but its absence does not: only quanto-int8-float8,"
    " calibrated on held-out speech, can refute a loss."
)
_GPU_NOTE = "The study measured this latency on a GPU, so times on a CPU say nothing of it."

CLAIMS = (
    Claim(
        "size-int8",
        "Int8 for every linear layer reduces the size of tiny by 19 %, of base by 36 % and of small"
        " by 57 %.",
        "Tables 2 and 3, abstract",
        _ALL,
        (SizeReduction("torch-int8"), SizeReduction("quanto-int8"), SizeReduction(_STATIC)),
    ),
    Claim(
        "size-low-bit",
        "nf4 reduces the size of tiny by 37 %, of base by 52 % and of small by 70 %; HQQ int4"
        " reduces that of small by 69 % and HQQ int3 by 71 %.",
        "Tables 2 and 3, section 6.1",
        _ALL,
        (SizeReduction("bnb-nf4"), SizeReduction("hqq-int4-g64"), SizeReduction("hqq-int3-g64")),
    ),
    Claim(
        "fastest-cpu",
        "On a CPU, PyTorch's dynamic int8 is the fastest recipe: 0.64 times fp32's latency.",
        "Table 2, sections 6.1 and 7.1",
        _SMALL,
        (
            RelativeTime("torch-int8", "faster"),
            RanksFirst("torch-int8", "time"),
            RelativeTime("torch-int8", "as published"),
        ),
        _SUBSTITUTES,
        note="0.64 is the ratio of the published RTFs, of whisper-small on an AMD EPYC. How much an"
        " int8 recipe gains depends on the CPU and on the model's size.",
    ),
    Claim(
        "fastest-costs-wer",
        "The cost of PyTorch's dynamic int8 is a higher WER on test-other.",
        "Tables 2 and 4, section 7.1",
        _SMALL,
        (WerDifference("torch-int8", "other", "worse"),),
        _SUBSTITUTES,
    ),
    Claim(
        "quanto-int8-clean",
        "Quanto int8 is as accurate as fp32 on test-clean.",
        "Tables 2 and 3, section 6.1",
        _SMALL,
        (WerDifference("quanto-int8", "clean", "no worse"),),
        _SUBSTITUTES,
    ),
    Claim(
        "quanto-int8-regularizes",
        "Quanto int8 is more accurate than fp32 on test-other: quantization acts as a regularizer.",
        "Table 2, sections 6.1, 7.3 and 8",
        _SMALL,
        (WerDifference("quanto-int8", "other", "better"),),
        _SUBSTITUTES,
    ),
    Claim(
        "quanto-int8-slower",
        "The cost of Quanto int8's accuracy is a higher latency.",
        "Tables 2, 3 and 4, section 7.1",
        _SMALL,
        (RelativeTime("quanto-int8", "slower", device="cuda"),),
        _SUBSTITUTES,
        note=_GPU_NOTE,
    ),
    Claim(
        "static-worse",
        "Static int8 with float8 activations is less accurate and slower than dynamic int8.",
        "Table 2, sections 6.1, 7.2 and 8",
        _SMALL,
        (
            WerDifference(_STATIC, "clean", "worse", against="quanto-int8"),
            WerDifference(_STATIC, "other", "worse", against="quanto-int8"),
            WerDifference(_STATIC, "clean", "worse", against="torch-int8"),
            WerDifference(_STATIC, "other", "worse", against="torch-int8"),
            RelativeTime(_STATIC, "slower", against="torch-int8"),
        ),
        _SUBSTITUTES,
        note=_CALIBRATION_NOTE + " Latency is compared with PyTorch's dynamic int8, since the study"
        " measured Quanto's on a GPU.",
    ),
    Claim(
        "static-worse-than-fp32",
        "Static int8 with float8 activations is less accurate and slower than fp32.",
        "Table 2",
        _SMALL,
        (
            WerDifference(_STATIC, "clean", "worse"),
            WerDifference(_STATIC, "other", "worse"),
            RelativeTime(_STATIC, "slower"),
        ),
        _SUBSTITUTES,
        note=_CALIBRATION_NOTE,
    ),
    Claim(
        "more-on-other",
        "Almost every recipe increases WER more on test-other than on test-clean.",
        "Figure 1, section 7.3",
        _SMALL,
        tuple(
            RobustnessGapChange(name)
            for name in ("torch-int8", "hqq-int4-g64", "hqq-int3-g64", "bnb-nf4", _STATIC)
        ),
        _SUBSTITUTES,
        may_fail=1,
    ),
    Claim(
        "low-bit-steepest",
        "From test-clean to test-other, WER increases most with nf4 and HQQ int3: more than with"
        " dynamic int8.",
        "Figure 1, section 7.3",
        _SMALL,
        tuple(
            RobustnessGapChange(low_bit, against=int8)
            for low_bit in ("bnb-nf4", "hqq-int3-g64")
            for int8 in ("quanto-int8", "torch-int8")
        ),
        _SUBSTITUTES,
        note="The study's own increases contradict it: HQQ int4 10.57 points, static int8 9.97,"
        " PyTorch int8 9.95, nf4 9.95, HQQ int3 8.82, fp32 8.40, Quanto int8 7.24. HQQ int3 has the"
        " second smallest increase of the quantized recipes, and nf4 that of PyTorch int8.",
    ),
    Claim(
        "eight-bits-minimum",
        "Fewer than 8 bits are not robust: on test-other 4 and 3 bits increase WER, 8 bits do not.",
        "Sections 7.1, 7.3 and 8",
        _SMALL,
        (
            WerDifference("quanto-int8", "other", "no worse"),
            WerDifference("hqq-int4-g64", "other", "worse"),
            WerDifference("bnb-nf4", "other", "worse"),
            WerDifference("hqq-int3-g64", "other", "worse"),
        ),
        _SUBSTITUTES,
    ),
    Claim(
        "low-bit-clean",
        "On clean speech 4 bits (HQQ int4, nf4) are as accurate as fp32.",
        "Table 2, section 6.1",
        _SMALL,
        (
            WerDifference("hqq-int4-g64", "clean", "no worse"),
            WerDifference("bnb-nf4", "clean", "no worse"),
        ),
        _SUBSTITUTES,
    ),
    Claim(
        "per-channel",
        "Per-channel scales are more accurate than per-tensor scales. PyTorch's two int8 recipes"
        " differ in nothing else.",
        "Sections 7.1 and 8",
        _SMALL,
        tuple(
            WerDifference("torch-int8-channel", split, "better", against="torch-int8")
            for split in ("clean", "other")
        ),
        _SUBSTITUTES,
    ),
    Claim(
        "symmetric-per-channel",
        "Quanto's symmetric per-channel int8 is more accurate than PyTorch's per-tensor int8.",
        "Sections 7.1 and 8",
        _SMALL,
        tuple(
            WerDifference("quanto-int8", split, "better", against="torch-int8")
            for split in ("clean", "other")
        ),
        _SUBSTITUTES,
        note="Granularity is confounded with activations. Quanto's activations stay in floating"
        " point; PyTorch's dynamic int8 quantizes them to 7 bits (reduce_range), with one range for"
        " a whole batch, so this difference is not that of the weights' scales. The recipes"
        " torch-int8-full-range and torch-int8-channel-full-range have 8 bits: their rows show how"
        " much of it goes away.",
        context=(
            WerDifference("torch-int8-full-range", "other", "better", against="torch-int8"),
            WerDifference(
                "torch-int8-channel-full-range", "other", "better", against="torch-int8-channel"
            ),
            WerDifference("quanto-int8", "other", "better", against="torch-int8-full-range"),
            WerDifference(
                "quanto-int8", "other", "better", against="torch-int8-channel-full-range"
            ),
        ),
    ),
    Claim(
        "smaller-models",
        "Smaller models follow the same pattern: nf4 increases WER more than int8 on both sets.",
        "Table 3, sections 6.2 and 7.1",
        _SMALLER,
        (
            WerDifference("bnb-nf4", "clean", "worse", against="quanto-int8"),
            WerDifference("bnb-nf4", "other", "worse", against="quanto-int8"),
        ),
    ),
    Claim(
        "losses-as-published",
        "WER increases of int8 and nf4: Quanto int8 +0.02 and +1.85 points on base, +0.04 and +0.95"
        " on tiny; nf4 +0.97 and +5.22 on base, +3.56 and +8.50 on tiny (clean, other).",
        "Table 3",
        _SMALLER,
        tuple(
            WerDifference(recipe, split, "as published")
            for recipe in ("quanto-int8", "bnb-nf4")
            for split in ("clean", "other")
        ),
    ),
    Claim(
        "choose-accurate",
        "For accuracy, choose Quanto int8.",
        "Table 4",
        _SMALL,
        (RanksFirst("quanto-int8", "wer"), WerDifference("quanto-int8", "other", "no worse")),
        _SUBSTITUTES,
    ),
    Claim(
        "choose-small",
        "For size, choose HQQ int3, at a higher WER and latency.",
        "Table 4, section 6.1",
        _SMALL,
        (
            RanksFirst("hqq-int3-g64", "size"),
            WerDifference("hqq-int3-g64", "other", "worse"),
            RelativeTime("hqq-int3-g64", "slower", device="cuda"),
        ),
        _SUBSTITUTES,
        note=_GPU_NOTE,
    ),
    Claim(
        "memory-limited",
        "On a CPU with limited memory, choose HQQ int4: as accurate as fp32 on clean speech, slower"
        " than fp32.",
        "Table 2, sections 6.1, 7.4 and 8",
        _SMALL,
        (
            WerDifference("hqq-int4-g64", "clean", "no worse"),
            RelativeTime("hqq-int4-g64", "slower"),
        ),
        _SUBSTITUTES,
    ),
    Claim(
        "gpu-slower",
        "On a GPU every quantized recipe is slower than fp32.",
        "Tables 2 and 3",
        _ALL,
        (
            RelativeTime("quanto-int8", "slower", device="cuda"),
            RelativeTime("bnb-nf4", "slower", device="cuda"),
            RelativeTime("hqq-int3-g64", "slower", device="cuda"),
        ),
        note=_GPU_NOTE,
    ),
)
