"""What each term means, in a sentence: the one source of help on pages, in the report and the docs.

A term may go by several names: a table's column, a recipe's field, a value of one.
"""

from dataclasses import dataclass

from whisperq_core.whisper.protocols import PROTOCOLS

ACCURACY, SPEED, STATISTICS = "Accuracy", "Speed and size", "How sure it is"
DESIGN, FORMATS, WORK = "Design of a quantization", "Number formats", "Speech, models and results"
GROUPS = (ACCURACY, SPEED, STATISTICS, DESIGN, FORMATS, WORK)


@dataclass(frozen=True)
class Term:
    """A name, what it means, and the other names it goes by in tables and recipes."""

    name: str
    definition: str
    group: str
    aliases: tuple[str, ...] = ()


def _group(group: str, *terms: tuple) -> tuple[Term, ...]:
    return tuple(Term(name, meaning, group, tuple(also)) for name, meaning, *also in terms)


_ACCURACY = _group(
    ACCURACY,
    (
        "WER",
        "Word error rate: words substituted, left out or put in, in percent of the words that were"
        " said. Lower is wanted; it can exceed 100 %.",
        "wer_pct",
    ),
    ("CER", "Character error rate: the same as WER, counted in characters.", "cer_pct"),
    ("reference", "What was really said in an utterance, written by a person."),
    ("hypothesis", "What the model heard in an utterance: its transcript."),
    (
        "reference words",
        "How many words were said, after normalising: what WER is a percentage of.",
        "reference_words",
    ),
    ("substitution", "A word heard as another one.", "substitutions"),
    ("deletion", "A word that was said and is not in the transcript.", "deletions"),
    ("insertion", "A word in the transcript that nobody said.", "insertions"),
    (
        "loops",
        "Utterances whose transcript repeats itself until the decoder's limit.",
        "loop",
        "wer_without_loops_pct",
    ),
    (
        "fallbacks",
        "Utterances that were decoded again at a higher temperature, because the first transcript"
        " repeated itself or was improbable.",
        "temperature",
    ),
    (
        "normaliser",
        "What makes “Mr.” and “mister” the same before words are counted: Whisper's own.",
    ),
)
_SPEED = _group(
    SPEED,
    (
        "RTF",
        "Real-time factor: generation time over audio duration; 0.1 transcribes ten minutes in one."
        " It holds for the machine named only.",
        "rtf",
        "rtf_low",
        "rtf_high",
    ),
    (
        "RTF / fp32",
        "The recipe's time over that of fp32, run in turn in one process: the median of repeated"
        " passes, and the lowest to the highest. Below 1 is faster than fp32.",
        "rtf_ratio",
        "rtf_ratio_low",
        "rtf_ratio_high",
        "time / fp32",
    ),
    (
        "RTF from",
        "Whether RTF is of passes repeated beside fp32, or of the one pass that gave the"
        " transcripts, which a busy machine may have slowed.",
        "rtf_source",
        "speed_key",
    ),
    (
        "Size",
        "Bytes of the model as saved; 1 MB is a million bytes.",
        "weights_bytes",
    ),
    (
        "size reduction",
        "How much smaller the saved model is than the same model in fp32, in percent.",
        "size_reduction_pct",
        "smaller_pct",
    ),
    (
        "peak memory",
        "The saved weights plus the largest growth of the process's memory while it transcribed a"
        " batch.",
        "peak_memory_bytes",
    ),
    ("quantization time", "Seconds to derive the quantized model from fp32.", "quantize_s"),
    (
        "first token",
        "Seconds from the start of a batch to its first token, a mean over batches.",
        "first_token_s",
    ),
    (
        "tokens per second",
        "Tokens a second of the decoder's time, over all utterances of a batch; a token is a word"
        " or a piece of one.",
        "tokens_per_s",
    ),
    (
        "encoder's share",
        "The part of the time that the encoder takes, which turns sound into what the decoder"
        " reads.",
        "encoder_share",
    ),
    (
        "kernels",
        "The code that multiplies. “library” is the quantization library's own; “dequantized” puts"
        " the dequantized weights into fp32 layers: the same transcripts, faster here, and used"
        " for accuracy only.",
    ),
    (
        "dequantized",
        "Turned back from few bits into the floating-point numbers that these stand for.",
    ),
    ("threads", "How many processor cores compute side by side."),
    ("device", "What computes: the processor (cpu), an NVIDIA GPU (cuda) or Apple's (mps)."),
    ("CPU", "The processor that a time was measured on; times of two processors do not compare."),
)
_STATISTICS = _group(
    STATISTICS,
    (
        "95% interval",
        "Where the true value plausibly lies, had other speakers been recorded. It is found by"
        " resampling speakers (utterances where speakers are not known). Two intervals that overlap"
        " do not mean equality: the difference has an interval of its own, which counts.",
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
        "Drawing speakers again and again with replacement, to see how much a figure depends on"
        " who happened to be recorded.",
        "resampled",
    ),
    (
        "WER − baseline",
        "The recipe's WER minus the baseline's on the same utterances, in points: from 5 % to 6 %"
        " is one point.",
        "difference_points",
        "difference to fp32",
    ),
    (
        "baseline",
        "What everything is compared with: the same model in fp32, unless another is chosen.",
    ),
    (
        "margin",
        "How many points of WER a recipe may lose and still count as no worse; half a point unless"
        " chosen otherwise.",
    ),
    (
        "verdict",
        "What is decided of WER beside the baseline: better, no worse than the margin, worse, or"
        " inconclusive. Corrected for how many recipes are compared.",
        "in_words",
        "better",
        "worse",
    ),
    (
        "no worse",
        "Decided: whatever the recipe loses in WER is less than the margin.",
    ),
    (
        "inconclusive",
        "This speech is too little to tell. It is no proof of equality.",
    ),
    (
        "Probability of a lower WER",
        "Share of resamples in which the recipe has fewer errors than the baseline. Not a verdict:"
        " it is not corrected for how many recipes are compared.",
        "lower_wer_pct",
    ),
    (
        "Minutes for a conclusion",
        "How much such speech, in all, would decide it with a chance of 80 %, if the difference is"
        " as measured.",
        "minutes_needed",
    ),
    (
        "Holm's correction",
        "Asks more of each verdict the more recipes are compared, so that one lucky recipe among"
        " many is not taken for a better one.",
        "Holm",
    ),
    (
        "MAPSSWE",
        "The word error test of NIST's SCTK: compares two transcripts segment by segment where"
        " they differ.",
    ),
    (
        "Pareto front",
        "The recipes that no other one beats on both axes: choosing among them is a matter of what"
        " matters more.",
        "front",
    ),
    (
        "significantly dominated",
        "Another recipe is decided to be no worse on both axes and better on one: no reason is left"
        " to choose it.",
        "dominated",
    ),
    (
        "nats a token",
        "How far the distribution of the next token moves from fp32's (Kullback-Leibler"
        " divergence); 0 is no change. A finer measure of a layer's loss than WER.",
    ),
)
_DESIGN = _group(
    DESIGN,
    ("recipe", "One way of quantizing a model: the library, the number formats and the scales."),
    ("quantization", "Storing a model's numbers in fewer bits, and perhaps computing in them."),
    (
        "family",
        "Whether the model is quantized in PyTorch, not at all, or runs in another runtime.",
    ),
    ("library", "What quantizes the model and multiplies.", "backend"),
    ("weights", "The number format of the model's stored weights."),
    ("activations", "The number format of what flows through the layers; float is not quantized."),
    ("bits", "How many bits a stored weight has; fp32 has 32."),
    (
        "scheme",
        "How activations are treated. Weight-only leaves them in floating point, dynamic scales"
        " them while running, static uses scales found beforehand on calibration speech.",
    ),
    ("weight-only", "Only stored weights are quantized; activations stay in floating point."),
    ("dynamic", "Activations are scaled anew each time, by the range they have then."),
    ("static", "Activations are scaled by ranges found beforehand, on calibration speech."),
    (
        "method",
        "Whether the quantized range is centred at zero (symmetric) or shifted to where the weights"
        " are (asymmetric).",
    ),
    ("symmetric", "The quantized range is centred at zero, so that a scale says all of it."),
    (
        "asymmetric",
        "The quantized range is shifted to where the weights lie, by a zero point beside the"
        " scale.",
    ),
    (
        "granularity",
        "Which weights share one scale: the whole tensor, an output channel, or a group. Finer"
        " loses less and stores more scales.",
        "tensor",
        "channel",
        "group",
    ),
    (
        "group size",
        "How many weights share one scale and zero point. Smaller groups are more accurate and"
        " larger on disk.",
        "group_size",
    ),
    (
        "granularity of activations",
        "What shares one scale among activations: the whole batch (tensor), each token (row), or"
        " groups of values.",
        "activation_granularity",
        "row",
    ),
    (
        "double quantization",
        "The scales are quantized as well, which saves a little more.",
        "double_quant",
    ),
    (
        "calibration",
        "The speech that static scales, or the rounding of mixed weights, are fitted to: held-out"
        " speech, or a tenth of the evaluated speech itself, as in the study, which flatters.",
        "held-out",
        "evaluation-10%",
    ),
    (
        "layers quantized",
        "Which layers are: every linear one, all but the output projection, or the whole model"
        " with its token table.",
        "coverage",
        "modules",
        "layers",
    ),
    (
        "token table",
        "The table with a row for each token, which reads text and, where it is tied, writes it.",
        "embeddings",
    ),
    (
        "rest",
        "The number format of convolutions and positions, where a recipe changes them too.",
    ),
    ("attention", "The number format of attention's products, where the recipe chooses it."),
    ("devices", "Where the library has kernels for the recipe."),
    (
        "GPTQ",
        "Rounds weights one after the other, each making up for the errors of those before.",
    ),
)
_FORMATS = _group(
    FORMATS,
    ("fp32", "32-bit floating point: what Whisper was trained in. Nothing is quantized."),
    ("bf16", "16-bit floating point with fp32's range and fewer digits; half the size."),
    ("fp16", "16-bit floating point with more digits and less range than bf16; half the size."),
    ("int8", "Whole numbers from −128 to 127 with a scale: a quarter of fp32's size."),
    ("float8", "8-bit floating point: a wide range, two or three bits of precision.", "fp8"),
    ("int6", "64 steps a weight, with a scale for each group."),
    ("int5", "32 steps a weight, with a scale for each group."),
    ("int4", "16 steps a weight, with a scale for each channel or group."),
    (
        "nf4",
        "4 bits whose 16 values lie as weights do, closer around zero (NormalFloat); bitsandbytes.",
    ),
    ("fp4", "4-bit floating point: 16 values, spaced wider away from zero; bitsandbytes."),
    ("int3", "8 steps a weight, with a scale for each group."),
    ("int2", "4 steps a weight, with a scale for each group: most transcripts suffer."),
    ("mixed", "Layers differ in their bits: those that lose more by it keep more of them."),
)
_WORK = _group(
    WORK,
    ("utterance", "One recording of somebody speaking, some seconds long.", "utterances"),
    ("model", "The Whisper that is quantized; base is larger and hears better than tiny."),
    ("evaluation set", "The recordings and references that a recipe was tried on.", "set"),
    ("audio length", "How long all recordings of a set are, in seconds.", "audio_s"),
    (
        "protocol",
        "How a model is made to transcribe: decoding, window and batches. Results of two protocols"
        " are never mixed in one plot.",
    ),
    *((f"protocol “{name}”", p.description, name) for name, p in PROTOCOLS.items()),
    ("name", "What a recipe is called: the library, the format, and what sets it apart."),
    ("description", "What a recipe does, in a sentence."),
    ("measured", "When the result was measured, in UTC.", "created_at"),
    (
        "key",
        "The name of a result: a hash of everything that can change it, so that the same key is the"
        " same measurement.",
    ),
)
TERMS = (*_ACCURACY, *_SPEED, *_STATISTICS, *_DESIGN, *_FORMATS, *_WORK)
_BY_NAME = {name.lower(): term for term in TERMS for name in (term.name, *term.aliases)}


def definition(name: str) -> str:
    """What the term of that name means, whatever its case; KeyError where there is none."""
    return _BY_NAME[name.lower()].definition


def find_definition(name: str) -> str | None:
    """The same, or None."""
    found = _BY_NAME.get(name.lower())
    return found.definition if found else None


def search(text: str) -> list[Term]:
    """The terms that have every word of the text in their names or meaning, in their order."""
    words = text.lower().split()

    def has(term: Term) -> bool:
        content = " ".join((term.name, *term.aliases, term.definition)).lower()
        return all(word in content for word in words)

    return [term for term in TERMS if has(term)]
