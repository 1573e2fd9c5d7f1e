"""Model × speech → transcripts, and what exactly is timed.

Timed is `generate` alone: encoder and decoding of one batch, every attempt at it, the device
synchronised before and after. Reading audio, computing features and turning tokens into text are
not timed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whisperq_core.errors import ModelError, RecipeError
from whisperq_core.scoring.loops import (
    COMPRESSION_RATIO_THRESHOLD,
    compression_ratio,
    is_looped,
)
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.speech.evaluation_sets import Utterance
from whisperq_core.whisper import short_window, static_decoder
from whisperq_core.whisper.generation import generate, timed
from whisperq_core.whisper.protocols import Protocol
from whisperq_core.whisper.runtime import Runtime, Segment, Transcripts
from whisperq_core.whisper.torch_types import Array, WhisperModule

if TYPE_CHECKING:
    from torch import Tensor

    from whisperq_core.whisper.models import Model

WINDOW_S = 30.0
# Whisper's own thresholds (defaults of its transcribe(): Radford et al. 2022, section 4.5).
LOGPROB_THRESHOLD = -1.0
NO_SPEECH_THRESHOLD = 0.6
# Transformers compresses the tokens' bytes, not the text; 1.35 is its equivalent of Whisper's 2.4.
TOKEN_COMPRESSION_RATIO_THRESHOLD = 1.35
# Sampling at a temperature above 0 starts here every time, so that a run can be repeated.
SEED = 0


def plan_batches(utterances: Sequence[Utterance], batch_size: int) -> list[tuple[Utterance, ...]]:
    """Batches by length, longest first, ties by id; over 30 s an utterance is a batch of its own.

    Depends on nothing but its arguments, since a batch's composition can change its transcripts.
    """
    ordered = sorted(utterances, key=lambda u: (-u.duration_s, u.id))
    batches = [(u,) for u in ordered if u.duration_s > WINDOW_S]
    short = ordered[len(batches) :]
    return batches + [tuple(short[i : i + batch_size]) for i in range(0, len(short), batch_size)]


def _window_features(
    model: "Model", torch_model: WhisperModule, audio: Sequence[Array]
) -> "Tensor":
    """Features of the first 30 s of each, on the model's device in its precision."""
    conv = torch_model.model.encoder.conv1.weight
    features: Tensor = model.features.windows(audio).to(conv.device, conv.dtype)
    return features


def _inputs(model: "Model", torch_model: WhisperModule, audio: Sequence[Array]) -> dict[str, Any]:
    """generate()'s inputs: features of one window, or of all of a longer recording and how."""
    if len(audio) > 1 or len(audio[0]) <= WINDOW_S * SAMPLE_RATE:
        return {"input_features": _window_features(model, torch_model, audio)}
    conv = torch_model.model.encoder.conv1.weight
    features, mask = model.features.whole(audio[0])
    return {
        "input_features": features.to(conv.device, conv.dtype),
        "attention_mask": mask.to(conv.device),
        "return_timestamps": True,
        "return_segments": True,
    }


def _options(model: "Model", protocol: Protocol, languages: Sequence[str | None]) -> dict[str, Any]:
    options: dict[str, Any] = {"num_beams": protocol.beams, "do_sample": False}
    if protocol.timestamps:
        options["return_timestamps"] = True
    if model.multilingual:
        chosen = list(languages)
        options |= {"task": protocol.task, "language": None if None in chosen else chosen}
    else:
        model.require_english(languages, protocol.task)
    return options


def transcribe(
    model: "Model",
    torch_model: WhisperModule,
    audio: Sequence[Array],
    languages: Sequence[str | None],
    protocol: Protocol,
) -> Transcripts:
    """Transcribes one batch of 16 kHz mono float32 audio, each of shape (samples,).

    torch_model is `model` after a recipe. languages: one code an input, None to detect it. An input
    over 30 s has to be alone in its batch.
    """
    import torch

    inputs = _inputs(model, torch_model, audio)
    options = _options(model, protocol, languages)
    own_decoding = protocol.is_fitted or static_decoder.is_compiled(torch_model)
    if own_decoding and not inputs.get("return_timestamps"):
        return _in_own_windows(model, torch_model, inputs, audio, languages, protocol)
    # no_grad, not inference_mode: Quanto's packed weights cannot be inference tensors.
    with torch.no_grad():
        if not protocol.has_fallback:
            return _window_by_window(model, torch_model, inputs, options, (0.0,))
        if inputs.get("return_timestamps") or protocol.timestamps:
            options |= _windowed_fallback(protocol)
            torch.manual_seed(SEED)
            return _window_by_window(model, torch_model, inputs, options, protocol.temperatures)
        features = inputs["input_features"]
        return _with_fallback(model, torch_model, features, options, protocol.temperatures)


def _in_own_windows(
    model: "Model",
    torch_model: WhisperModule,
    inputs: dict[str, Any],
    audio: Sequence[Array],
    languages: Sequence[str | None],
    protocol: Protocol,
) -> Transcripts:
    """Every utterance in the protocol's window; what loops in a fitted one again in the whole one.

    By WhisperQ's own decoder, which chooses the tokens that generate() does.
    """
    import torch

    if None in languages:
        needs = "A fitted window" if protocol.is_fitted else "A compiled recipe"
        raise ModelError(f"{needs} needs the language. Choose one instead of detecting it.")
    features = inputs["input_features"]
    window = window_of(protocol)
    seconds = [len(one) / SAMPLE_RATE for one in audio]
    prompts = [model.prompt(language, protocol.task) for language in languages]

    def looped(tokens: list[int]) -> bool:
        return is_looped(model.tokenizer.decode(tokens))

    with torch.no_grad():
        stop = looped if protocol.is_fitted else None
        generation = short_window.generate(torch_model, features, seconds, prompts, window, stop)
        texts, times, tokens = (
            list(_texts(model, generation.tokens)),
            [generation.times],
            generation.token_count,
        )
        again = [row for row, text in enumerate(texts) if stop and is_looped(text)]
        if again:
            whole_windows = [WINDOW_S] * len(again), [prompts[row] for row in again]
            whole = short_window.generate(
                torch_model, features[again], *whole_windows, short_window.WHOLE
            )
            times.append(whole.times)
            tokens += whole.token_count
            for row, text in zip(again, _texts(model, whole.tokens), strict=True):
                texts[row] = text
    return Transcripts(
        texts=tuple(texts),
        temperatures=(0.0,) * len(texts),
        wall_s=sum(t.wall_s for t in times),
        encoder_s=sum(t.encoder_s for t in times),
        first_token_s=generation.first_token_s,
        tokens=tokens,
        redone=tuple(row in again for row in range(len(texts))),
    )


def _texts(model: "Model", tokens: "Tensor") -> tuple[str, ...]:
    decoded = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return tuple(text.strip() for text in decoded)


def _window_by_window(
    model: "Model",
    torch_model: WhisperModule,
    inputs: dict[str, Any],
    options: dict[str, Any],
    temperatures: tuple[float, ...],
) -> Transcripts:
    """One call of generate(), which itself goes through windows and, if told so, temperatures."""
    generation = generate(torch_model, inputs, options)
    texts = _texts(model, generation.tokens)
    return Transcripts(
        texts=texts,
        temperatures=(temperatures[generation.attempts - 1],) * len(texts),
        wall_s=generation.times.wall_s,
        encoder_s=generation.times.encoder_s,
        first_token_s=generation.first_token_s,
        tokens=generation.token_count,
        segments=tuple(
            Segment(start, end, model.tokenizer.decode(ids, skip_special_tokens=True).strip())
            for start, end, ids in generation.segments
        ),
    )


def _windowed_fallback(protocol: Protocol) -> dict[str, Any]:
    """Transformers' own fallback, which works on windows whose bounds only it knows."""
    return {
        "temperature": protocol.temperatures,
        "logprob_threshold": LOGPROB_THRESHOLD,
        "no_speech_threshold": NO_SPEECH_THRESHOLD,
        "compression_ratio_threshold": TOKEN_COMPRESSION_RATIO_THRESHOLD,
        "top_k": 0,
    }


def _with_fallback(
    model: "Model",
    torch_model: WhisperModule,
    features: "Tensor",
    options: dict[str, Any],
    temperatures: tuple[float, ...],
) -> Transcripts:
    """One window for each row of the batch; rows that fail are decoded again together, hotter.

    A row fails where its text repeats itself or its tokens are improbable. The last attempt is
    final. Improbable tokens over what is likely no speech are accepted at once, as silence: no
    text.
    """
    import torch

    rows, count = list(range(len(features))), len(features)
    texts, accepted = [""] * count, [0.0] * count
    no_speech: dict[int, float] = {}
    attempts, looks = [], []
    for temperature in temperatures:
        torch.manual_seed(SEED)
        attempt = generate(
            torch_model,
            {"input_features": features[rows]},
            # top_k 0: Whisper samples from all tokens.
            _options_of(options, rows) | {"temperature": temperature, "top_k": 0},
            with_logprobs=True,
        )
        attempts.append(attempt)
        logprobs = dict(zip(rows, attempt.avg_logprobs, strict=True))
        unsure = [r for r in rows if logprobs[r] <= LOGPROB_THRESHOLD and r not in no_speech]
        if unsure:
            with timed(torch_model) as times:
                probabilities = _no_speech(torch_model, features[unsure])
            looks.append(times)
            no_speech |= zip(unsure, probabilities, strict=True)
        failed = []
        for row, text in zip(rows, _texts(model, attempt.tokens), strict=True):
            improbable = logprobs[row] <= LOGPROB_THRESHOLD
            silent = improbable and no_speech[row] > NO_SPEECH_THRESHOLD
            texts[row], accepted[row] = "" if silent else text, temperature
            looped = compression_ratio(text) > COMPRESSION_RATIO_THRESHOLD
            if not silent and (looped or logprobs[row] < LOGPROB_THRESHOLD):
                failed.append(row)
        rows = failed
        if not rows:
            break
    spent = [*(attempt.times for attempt in attempts), *looks]
    return Transcripts(
        texts=tuple(texts),
        temperatures=tuple(accepted),
        wall_s=sum(times.wall_s for times in spent),
        encoder_s=sum(times.encoder_s for times in spent),
        first_token_s=attempts[0].first_token_s,
        tokens=sum(attempt.token_count for attempt in attempts),
    )


def _options_of(options: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The options of some rows of a batch; only languages are given row by row."""
    languages = options.get("language")
    return options | {"language": [languages[r] for r in rows]} if languages else options


def _no_speech(torch_model: WhisperModule, features: "Tensor") -> list[float]:
    """Whisper's probability, for each window, that nobody speaks in it.

    It is that of the token before <|notimestamps|> (<|nospeech|>, or <|nocaptions|> in older
    vocabularies) at the place of the start token, of all tokens: nothing is suppressed there.
    """
    tables = torch_model.generation_config
    start = features.new_full((len(features), 1), tables.decoder_start_token_id).long()
    logits = torch_model(input_features=features, decoder_input_ids=start).logits[:, 0].float()
    probabilities: list[float] = logits.softmax(-1)[:, tables.no_timestamps_token_id - 1].tolist()
    return probabilities


class PyTorchRuntime(Runtime):
    """A PyTorch model after a recipe, and what of its fp32 model it needs."""

    def __init__(self, model: "Model", torch_model: WhisperModule) -> None:
        self.model, self.torch_model = model, torch_model

    def warm_up(self, audio: Sequence[Array]) -> None:
        """See the function `warm_up`."""
        warm_up(self.model, self.torch_model, audio)

    def transcribe(
        self, audio: Sequence[Array], languages: Sequence[str | None], protocol: Protocol
    ) -> Transcripts:
        """See the function `transcribe`."""
        return transcribe(self.model, self.torch_model, audio, languages, protocol)


def warm_up(model: "Model", torch_model: WhisperModule, audio: Sequence[Array]) -> None:
    """One untimed forward pass, which also checks the logits.

    Raises RecipeError when they are not numbers: generate() would silently return empty text.
    """
    import torch

    logits = forward(model, torch_model, audio, [[model.torch_model.config.decoder_start_token_id]])
    if not torch.isfinite(logits).all():
        raise RecipeError(
            "The quantized model computes values that are not numbers (NaN), so it cannot"
            " transcribe. Choose another recipe for this model."
        )


def window_of(protocol: Protocol) -> short_window.Window:
    """How much of the 30 s the protocol computes of an utterance that they hold."""
    if not protocol.is_fitted:
        return short_window.WHOLE
    return short_window.Window(protocol.margin_s or 0.0, protocol.fold, protocol.merge_at)


def forward(
    model: "Model",
    torch_model: WhisperModule,
    audio: Sequence[Array],
    tokens: Sequence[Sequence[int]],
    window: short_window.Window | None = None,
) -> "Tensor":
    """Logits of a teacher-forced pass over the first 30 s, shape (batch, tokens, vocabulary).

    One row of tokens serves the whole batch where there is only one. window: cut to fit the first
    of the audio; None for the whole 30 s.
    """
    import torch

    features = _window_features(model, torch_model, audio)
    ids = torch.tensor(tokens, device=features.device).expand(len(audio), -1)
    with torch.no_grad():
        inputs: dict[str, Any] = {"input_features": features}
        if window is not None:
            seconds = len(audio[0]) / SAMPLE_RATE
            states, _ = short_window.encode(torch_model, features, seconds, window)
            inputs = {"encoder_outputs": (states[None],)}
        logits: Tensor = torch_model(**inputs, decoder_input_ids=ids).logits
    return logits


def detect_language(model: "Model", audio: Array) -> str:
    """Code of the language spoken in the first 30 s, by the fp32 model; "en" for English-only."""
    import torch

    if not model.multilingual:
        return "en"
    features = _window_features(model, model.torch_model, [audio])
    with torch.no_grad():
        token = model.torch_model.detect_language(input_features=features)
    code: str = model.tokenizer.decode(token[0])
    return code.strip("<|>")


def language_probabilities(model: "Model", audio: Array) -> dict[str, float]:
    """How probable each language is in the first 30 s, by the fp32 model; by code, the best first.

    As Whisper detects a language: the softmax over language tokens after the start token. Empty
    for an English-only model.
    """
    config = model.torch_model.generation_config
    tokens: dict[str, int] | None = getattr(config, "lang_to_id", None)
    if not model.multilingual or not tokens:
        return {}
    start = [[model.torch_model.config.decoder_start_token_id]]
    logits = forward(model, model.torch_model, [audio[: 30 * SAMPLE_RATE]], start)[0, -1]
    values = logits[list(tokens.values())].float().softmax(-1).tolist()
    codes = [token.strip("<|>") for token in tokens]
    return dict(sorted(zip(codes, values, strict=True), key=lambda pair: -pair[1]))
