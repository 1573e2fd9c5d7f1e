"""What each term means, in a sentence: the one source of help on pages, in the report and the docs.

A term may go by several names: a table's column, a recipe's field, a value of one.
"""

from dataclasses import dataclass

from whisperq_core.present.labels import protocol_label
from whisperq_core.whisper.protocols import PROTOCOLS

ACCURACY, SPEED, STATISTICS = "Accuracy", "Speed and size", "Statistics"
DESIGN, FORMATS, WORK = "Quantization", "Number formats", "Speech, models and results"
GROUPS = (ACCURACY, SPEED, STATISTICS, DESIGN, FORMATS, WORK)


@dataclass(frozen=True)
class Term:
    """A term: its name, its definition, and its other names in tables and recipes."""

    name: str
    definition: str
    group: str
    aliases: tuple[str, ...] = ()


def _group(group: str, *terms: tuple[str, ...]) -> tuple[Term, ...]:
    """Terms of a group from their names, definitions and any aliases."""
    return tuple(Term(name, text, group, tuple(aliases)) for name, text, *aliases in terms)


_ACCURACY = _group(
    ACCURACY,
    (
        "WER",
        "Word error rate: substituted, deleted and inserted words, in percent of the reference"
        " words. Lower is more accurate; it can exceed 100 %.",
        "wer_pct",
    ),
    ("CER", "Character error rate: as WER, counted in characters.", "cer_pct"),
    (
        "divergence",
        "How far a recipe's predictions are from fp32's: the mean Kullback-Leibler divergence of"
        " the next token, in thousandths of a nat (mnat) per token, while both models are given"
        " fp32's transcript. 0 is no change. It needs no reference and shows losses too small to"
        " change a word.",
        "divergence_mnat",
        "divergence_mnat_low",
        "divergence_mnat_high",
    ),
    (
        "tokens changed",
        "Share of tokens for which the recipe's most probable choice is not fp32's, while both"
        " models are given fp32's transcript.",
        "changed_tokens_pct",
    ),
    ("reference", "The correct transcript of an utterance, written by a person."),
    ("hypothesis", "The transcript that the model produced for an utterance."),
    (
        "reference words",
        "Number of words in the references after normalization: the denominator of WER.",
        "reference_words",
    ),
    ("substitution", "A reference word that was transcribed as another word.", "substitutions"),
    ("deletion", "A reference word that is missing from the transcript.", "deletions"),
    ("insertion", "A word in the transcript that is not in the reference.", "insertions"),
    (
        "loops",
        "Number of utterances whose transcript repeats itself until the token limit.",
        "loop",
        "wer_without_loops_pct",
    ),
    (
        "fallbacks",
        "Number of utterances decoded again at a higher temperature because the first transcript"
        " was repetitive or improbable.",
        "temperature",
    ),
    (
        "normalizer",
        "Rules that make spelling variants such as “Mr.” and “mister” equal before words are"
        " counted; Whisper's own by default.",
        "normaliser",
    ),
)
_SPEED = _group(
    SPEED,
    (
        "RTF",
        "Real-time factor: generation time over audio duration; at 0.1, ten minutes of audio take"
        " one minute. Valid for the named machine only.",
        "rtf",
        "rtf_low",
        "rtf_high",
    ),
    (
        "Relative latency",
        "The recipe's generation time over fp32's (× fp32), timed alternately in one process;"
        " median and range of repeated passes. Below 1 is faster than fp32.",
        "rtf_ratio",
        "rtf_ratio_low",
        "rtf_ratio_high",
        "RTF / fp32",
        "time / fp32",
    ),
    (
        "Source of RTF",
        "Repeated passes alternating with fp32, or the single pass that produced the transcripts,"
        " which other load on the machine may have slowed.",
        "rtf_source",
        "speed_key",
    ),
    ("Size", "Bytes of the saved model; 1 MB is a million bytes.", "weights_bytes"),
    (
        "size reduction",
        "Reduction in the saved model's size compared with fp32, in percent.",
        "size_reduction_pct",
        "smaller_pct",
    ),
    (
        "peak memory",
        "The saved weights plus the largest growth of process memory while transcribing a batch.",
        "peak_memory_bytes",
    ),
    ("quantization time", "Seconds to quantize the fp32 model.", "quantize_s"),
    (
        "first token",
        "Seconds from the start of a batch to its first token, averaged over batches.",
        "first_token_s",
    ),
    (
        "tokens per second",
        "Tokens generated per second of decoder time, over all utterances of a batch; a token is a"
        " word or part of one.",
        "tokens_per_s",
    ),
    (
        "encoder's share",
        "Fraction of the generation time that the encoder takes; the decoder takes the rest.",
        "encoder_share",
    ),
    (
        "kernels",
        "The code that multiplies matrices. “library”: the quantization library's own."
        " “dequantized”: fp32 layers with dequantized weights, for accuracy only; the transcripts"
        " are the same, and it is faster where the library's kernels are slow.",
    ),
    ("dequantized", "Converted from the quantized values back to floating point."),
    ("threads", "Number of processor threads that compute in parallel."),
    ("device", "Where the model runs: CPU (cpu), NVIDIA GPU (cuda) or Apple GPU (mps)."),
    ("CPU", "The processor that speed was measured on. Speeds of different CPUs do not compare."),
)
_STATISTICS = _group(
    STATISTICS,
    (
        "95 % interval",
        "Confidence interval from a bootstrap over speakers (over utterances where speakers are"
        " unknown). Overlapping intervals do not show that two results are equal: use the"
        " interval of the paired difference.",
        "wer_low_pct",
        "wer_high_pct",
        "cer_low_pct",
        "cer_high_pct",
        "difference_low",
        "difference_high",
        "WER, low",
        "WER, high",
    ),
    (
        "bootstrap",
        "Resampling speakers with replacement, to estimate how much a figure depends on who was"
        " recorded.",
        "resampled",
    ),
    (
        "WER difference",
        "The recipe's WER minus the baseline's on the same utterances, in percentage points: from"
        " 5 % to 6 % is one point.",
        "difference_points",
        "WER difference from fp32",
        "difference from baseline",
    ),
    (
        "baseline",
        "The recipe that all others are compared with: fp32 of the same model by default.",
    ),
    (
        "margin",
        "Non-inferiority margin: the increase in WER, in points, below which a recipe counts as no"
        " worse than the baseline; 0.5 by default. Smaller margins need more test data.",
    ),
    (
        "verdict",
        "Result of comparing WER with the baseline's: better, no worse (95 %), worse, or too close"
        " to call; corrected for multiple comparisons.",
        "in_words",
        "better",
        "worse",
    ),
    (
        "no worse",
        "Non-inferior: the increase in WER is shown to be smaller than the margin, at 95 %"
        " confidence.",
        "non-inferior",
    ),
    (
        "too close to call",
        "The test audio is not enough for a conclusion. This does not show that both are equal.",
        "inconclusive",
    ),
    (
        "Rate compared",
        "The rate that the verdict compares: WER, or CER where most of the audio is in languages"
        " written without spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer).",
        "verdict_rate",
    ),
    (
        "Probability of a lower WER",
        "The confidence that the recipe has a lower WER than the baseline. Not corrected for"
        " multiple comparisons, so it is not a verdict.",
        "lower_wer_pct",
    ),
    (
        "Probability of no worse",
        "The confidence that the WER increase over the baseline is below the margin. Not"
        " corrected for multiple comparisons, so it is not a verdict.",
        "within_margin_pct",
    ),
    (
        "Minutes for a conclusion",
        "Estimated total minutes of test audio for a conclusion with 80 % power, if the difference"
        " is as measured.",
        "minutes_needed",
    ),
    (
        "correction for multiple comparisons",
        "With more recipes, differences by chance become more likely, so each verdict needs"
        " stronger evidence. The correction is smaller where recipes make the same errors.",
        "Holm",
        "simultaneous",
    ),
    (
        "Pareto front",
        "The recipes that no other recipe beats on both axes; each is a trade-off between the two.",
        "front",
        "Pareto-optimal",
    ),
    (
        "significantly dominated",
        "Another recipe is shown to be no worse on both axes and better on at least one.",
        "dominated",
    ),
    (
        "nats per token",
        "Kullback-Leibler divergence of the next-token distribution from fp32's; 0 is no change. A"
        " finer measure of a layer's sensitivity than WER.",
        "sensitivity",
    ),
)
_DESIGN = _group(
    DESIGN,
    (
        "recipe",
        "How a model is quantized: library, number formats, scales and layers, under one name.",
    ),
    ("configuration", "A model quantized by a recipe, and the protocol that it transcribes with."),
    ("quantization", "Storing weights, and optionally activations, in fewer bits."),
    ("family", "Quantized in PyTorch, not quantized, or run by another runtime."),
    ("library", "The library that quantizes the model and runs its quantized layers.", "backend"),
    ("weights", "Number format of the stored weights."),
    ("activations", "Number format of the layers' inputs; float is not quantized."),
    ("bits", "Bits per weight, excluding scales; fp32 has 32."),
    (
        "scheme",
        "How activations are quantized: not at all (weight-only), with scales computed at run time"
        " (dynamic), or with scales from calibration (static).",
    ),
    ("weight-only", "Only weights are quantized; activations stay in floating point."),
    ("dynamic", "Activation scales are computed at run time from the current activations."),
    ("static", "Activation scales are fixed in advance, by calibration."),
    (
        "method",
        "Whether the quantized range is centred at zero (symmetric) or fitted to the range of the"
        " weights (asymmetric).",
    ),
    ("symmetric", "The quantized range is centred at zero; only a scale is stored."),
    (
        "asymmetric",
        "The quantized range follows the weights' range; a scale and a zero point are stored.",
    ),
    (
        "granularity",
        "Which weights share a scale: the whole tensor, an output channel, or a group. Finer is"
        " more accurate and stores more scales.",
        "tensor",
        "channel",
        "group",
    ),
    (
        "group size",
        "Number of weights that share a scale and zero point. Smaller groups are more accurate and"
        " larger on disk.",
        "group_size",
    ),
    (
        "granularity of activations",
        "Which activations share a scale: the whole batch (tensor), a token (row), or a group of"
        " values.",
        "activation_granularity",
        "row",
    ),
    (
        "full range of activations",
        "Activations use all 8 bits. PyTorch's dynamic int8 uses 7 by default, so its activations"
        " are coarser.",
        "full_range",
    ),
    (
        "format of the rest",
        "The number format in which a quantized model computes what is not quantized, such as its"
        " normalizations. On a GPU usually a half-precision one.",
        "compute",
    ),
    (
        "compiled",
        "On a GPU: layers are compiled, and a step of the decoder is started as one CUDA graph"
        " instead of hundreds of kernels, which saves the time in between.",
    ),
    (
        "double quantization",
        "The scales are quantized as well, which saves a little more space.",
        "double_quant",
    ),
    (
        "calibration",
        "The audio that static scales or weight rounding are fitted to: held-out audio, or a"
        " tenth of the evaluation set as in the study, which biases WER downwards.",
        "held-out",
        "evaluation-10%",
    ),
    (
        "layers quantized",
        "All linear layers, all but the output projection, or the whole model including the token"
        " embeddings.",
        "coverage",
        "modules",
        "layers",
    ),
    (
        "token embeddings",
        "The embedding matrix of the decoder's tokens; also the output projection where the two"
        " are tied.",
        "embeddings",
    ),
    ("rest", "Number format of convolutions and position embeddings, where a recipe sets it."),
    ("attention", "Number format of the attention products, where a recipe sets it."),
    ("devices", "Devices for which the library has kernels for the recipe."),
    (
        "GPTQ",
        "Rounds a layer's weights column by column; later columns compensate for the rounding"
        " errors of earlier ones.",
    ),
)
_FORMATS = _group(
    FORMATS,
    ("fp32", "32-bit floating point, as Whisper was trained: not quantized."),
    ("bf16", "16-bit floating point with fp32's range and fewer digits; half of fp32's size."),
    ("fp16", "16-bit floating point, more digits and less range than bf16; half of fp32's size."),
    ("int8", "8-bit integers from −128 to 127 with a scale; a quarter of fp32's size."),
    ("float8", "8-bit floating point: wide range, two or three bits of precision.", "fp8"),
    ("int6", "6-bit integers (64 levels) with a scale for each group."),
    ("int5", "5-bit integers (32 levels) with a scale for each group."),
    ("int4", "4-bit integers (16 levels) with a scale for each channel or group."),
    (
        "nf4",
        "4-bit NormalFloat: 16 levels spaced like normally distributed weights, denser around zero;"
        " bitsandbytes.",
    ),
    ("fp4", "4-bit floating point: 16 levels, wider apart away from zero; bitsandbytes."),
    ("int3", "3-bit integers (8 levels) with a scale for each group."),
    ("int2", "2-bit integers (4 levels) with a scale for each group; most transcripts degrade."),
    ("mixed", "Bits differ by layer: sensitive layers keep more of them."),
)
_WORK = _group(
    WORK,
    ("utterance", "One short recording of one speaker, with its reference.", "utterances"),
    ("model", "The Whisper model that is quantized; base is larger and more accurate than tiny."),
    ("evaluation set", "The utterances that recipes are evaluated on.", "set"),
    ("audio length", "Total length of a set's audio, in seconds.", "audio_s"),
    (
        "protocol",
        "How a model transcribes: decoding, window and batches. Results of different protocols are"
        " never mixed in one plot.",
    ),
    *((protocol_label(name), p.description, name) for name, p in PROTOCOLS.items()),
    ("name", "Name of a recipe: library, format, and what distinguishes it from similar recipes."),
    ("description", "What a recipe does, in a sentence."),
    ("measured", "When the result was measured (UTC).", "created_at"),
    (
        "key",
        "Identifier of a result: a hash of everything that can change it, so results with equal"
        " keys are the same measurement.",
    ),
)
TERMS = (*_ACCURACY, *_SPEED, *_STATISTICS, *_DESIGN, *_FORMATS, *_WORK)
_BY_NAME = {name.lower(): term for term in TERMS for name in (term.name, *term.aliases)}


def definition(name: str) -> str:
    """The definition of the term of that name, in any case; raises KeyError if there is none."""
    return _BY_NAME[name.lower()].definition


def find_definition(name: str) -> str | None:
    """The definition of the term of that name, in any case; None if there is none."""
    term = _BY_NAME.get(name.lower())
    return term.definition if term else None


def search(text: str) -> list[Term]:
    """The terms whose names and definition contain every word of the text, in order."""
    words = text.lower().split()

    def matches(term: Term) -> bool:
        content = " ".join((term.name, *term.aliases, term.definition)).lower()
        return all(word in content for word in words)

    return [term for term in TERMS if matches(term)]
