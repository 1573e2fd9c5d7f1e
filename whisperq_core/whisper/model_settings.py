"""What a model's folder says of decoding besides its weights, read without torch.

A transcript depends on the suppressed tokens, on the tokenizer and on the number of attention heads
as well as on the weights. `settings_digest` identifies them where they are not Whisper's standard
ones. Languages, tasks and the prompt always come from the tokenizer; forced_decoder_ids and the
tables of generation_config.json are not used. Alignment heads time words and change no transcript.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisperq_core.errors import ModelError

# Every file that these settings are read from.
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)
# Tokens of symbols and annotations that are not speech (openai/whisper, tokenizer.py), in the
# vocabularies of English-only and of multilingual models.
# fmt: off
_NOT_SPEECH_ENGLISH = (
    1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93,
    357, 366, 438, 532, 685, 705, 796, 930, 1058, 1220, 1267, 1279, 1303, 1343, 1377, 1391,
    1635, 1782, 1875, 2162, 2361, 2488, 3467, 4008, 4211, 4600, 4808, 5299, 5855, 6329,
    7203, 9609, 9959, 10563, 10786, 11420, 11709, 11907, 13163, 13697, 13700, 14808, 15306,
    16410, 16791, 17992, 19203, 19510, 20724, 22305, 22935, 27007, 30109, 30420, 33409,
    34949, 40283, 40493, 40549, 47282, 49146,
)
_NOT_SPEECH_MULTILINGUAL = (
    1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93,
    359, 503, 522, 542, 873, 893, 902, 918, 922, 931, 1350, 1853, 1982, 2460, 2627, 3246,
    3253, 3268, 3536, 3846, 3961, 4183, 4667, 6585, 6647, 7273, 9061, 9383, 10428, 10929,
    11938, 12033, 12331, 12562, 13793, 14157, 14635, 15265, 15618, 16553, 16604, 18362,
    18956, 20075, 21675, 22520, 26130, 26161, 26435, 28279, 29464, 31650, 32302, 32470,
    36865, 42863, 47425, 49870, 50254,
)
# fmt: on
# sha256 of each vocabulary's text tokens, as `_vocabulary_digest` computes it.
_TEXT_TOKENS = (
    "4c9d30e24aa2b6a802cbe721e72c4ea9f4ac076781eafb0686f6ae4019f7f130",  # English-only
    "5f80b5acb5e831af9ef0ecfcf67c0eba1d22c3e6cd89cdfb2469cdd8f5e2d2d5",  # multilingual
)
_HEAD_WIDTH = 64  # of every published Whisper
_TIMESTAMPS = 1501  # tokens from <|0.00|> to <|30.00|>, right after <|notimestamps|>


@dataclass(frozen=True)
class DecodingSettings:
    """Settings of one folder that are in use.

    attention_heads: of encoder and decoder; None where config.json does not say. tokens: every
    token of the tokenizer and its id.
    """

    suppress_tokens: tuple[int, ...]
    begin_suppress_tokens: tuple[int, ...]
    alignment_heads: tuple[tuple[int, int], ...]
    attention_heads: tuple[int | None, int | None]
    tokens: dict[str, int]

    @property
    def end_token(self) -> int:
        """The id of <|endoftext|>: 50256 in English-only vocabularies, 50257 in others."""
        return self.tokens["<|endoftext|>"]


def read_settings(folder: Path) -> DecodingSettings:
    """The settings of a model's folder.

    Suppressed tokens are those of generation_config.json, config.json or CTranslate2's config.json;
    Whisper's standard ones where no file names any. Raises ModelError for a file that is no JSON,
    a tokenizer that is not Whisper's, or a generation_config.json that belongs to another model.
    """
    config, generation = (_json(folder / n) for n in ("config.json", "generation_config.json"))
    # config.json has a null where a setting was left out; in generation_config.json it means none.
    stored = {key: value for key, value in config.items() if value is not None} | generation
    tokens = _tokens(folder)
    for key, token in (
        ("decoder_start_token_id", "<|startoftranscript|>"),
        ("no_timestamps_token_id", "<|notimestamps|>"),
    ):
        if generation.get(key, tokens[token]) != tokens[token]:
            raise ModelError(
                f"{folder / 'generation_config.json'} belongs to another model: its {key} is"
                f" {generation[key]}, and the tokenizer's is {tokens[token]}. Copy the file that"
                " belongs to this tokenizer, or delete it to decode with Whisper's standard"
                " settings."
            )
    suppressed, first = _standard_suppressed(tokens)
    return DecodingSettings(
        suppress_tokens=_ids(stored, ("suppress_tokens", "suppress_ids"), suppressed),
        begin_suppress_tokens=_ids(stored, ("begin_suppress_tokens", "suppress_ids_begin"), first),
        alignment_heads=tuple((layer, head) for layer, head in stored.get("alignment_heads") or ()),
        attention_heads=(
            config.get("encoder_attention_heads"),
            config.get("decoder_attention_heads", config.get("encoder_attention_heads")),
        ),
        tokens=tokens,
    )


def settings_digest(settings: DecodingSettings, width: int) -> str | None:
    """sha256 (hex) of what can change a transcript; None where all of it is Whisper's standard.

    width: of the model, d_model. The order and repetition of suppressed tokens change nothing.
    """
    suppressed, first = _standard_suppressed(settings.tokens)
    heads = width // _HEAD_WIDTH
    extra = {t: i for t, i in settings.tokens.items() if i > settings.tokens["<|notimestamps|>"]}
    content = {
        "suppress_tokens": (sorted({*settings.suppress_tokens}), sorted({*suppressed})),
        "begin_suppress_tokens": (sorted({*settings.begin_suppress_tokens}), sorted({*first})),
        "attention_heads": ([n or heads for n in settings.attention_heads], [heads, heads]),
        "added_tokens": (
            {t: i for t, i in extra.items() if not _is_timestamp(t)},
            {},
        ),
        "special_tokens": (_special_tokens(settings.tokens), _standard_special(settings.tokens)),
    }
    differing: dict[str, Any] = {
        key: actual for key, (actual, standard) in content.items() if actual != standard
    }
    if (vocabulary := _vocabulary_digest(settings.tokens)) not in _TEXT_TOKENS:
        differing["vocabulary"] = vocabulary
    if not differing:
        return None
    return hashlib.sha256(json.dumps(differing, sort_keys=True).encode()).hexdigest()


def _ids(stored: dict[str, Any], keys: tuple[str, str], standard: list[int]) -> tuple[int, ...]:
    """Token ids under the first key that is stored, be it empty; else the standard ones."""
    for key in keys:
        if key in stored:
            return tuple(stored[key] or ())
    return tuple(standard)


def _standard_suppressed(tokens: dict[str, int]) -> tuple[list[int], list[int]]:
    """What Whisper suppresses at every step, and at the first one in addition."""
    end = tokens["<|endoftext|>"]
    text = _NOT_SPEECH_ENGLISH if end == 50256 else _NOT_SPEECH_MULTILINGUAL
    start, none = tokens["<|startoftranscript|>"], tokens["<|notimestamps|>"]
    # translate, transcribe, startoflm, startofprev and nospeech come right before notimestamps.
    return [*text, start, *range(none - 5, none)], [220, end]


def _special_tokens(tokens: dict[str, int]) -> list[int | None]:
    names = ("startoftranscript", "en", "translate", "transcribe", "startofprev", "notimestamps")
    return [tokens.get(f"<|{name}|>") for name in names]


def _standard_special(tokens: dict[str, int]) -> list[int | None]:
    end, none = tokens["<|endoftext|>"], tokens["<|notimestamps|>"]
    return [end + 1, end + 2, none - 5, none - 4, none - 2, none]


def _vocabulary_digest(tokens: dict[str, int]) -> str:
    end = tokens["<|endoftext|>"]
    text = sorted((number, token) for token, number in tokens.items() if number < end and token)
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def has_tokenizer(folder: Path) -> bool:
    """Whether there is a tokenizer.json, or a vocab.json with its merges.txt."""
    return (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )


def _tokens(folder: Path) -> dict[str, int]:
    """Every token and its id, from tokenizer.json, or from vocab.json and added_tokens.json."""
    if (folder / "tokenizer.json").is_file():
        stored = _json(folder / "tokenizer.json")
        tokens = dict((stored.get("model") or {}).get("vocab") or {})
        tokens |= {token["content"]: token["id"] for token in stored.get("added_tokens") or ()}
    elif has_tokenizer(folder):
        tokens = _json(folder / "vocab.json") | _json(folder / "added_tokens.json")
    else:
        raise ModelError(f"{folder} has no tokenizer.json. Copy it there from the original model.")
    for token in ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"):
        if token not in tokens:
            raise ModelError(
                f"The tokenizer in {folder} is not Whisper's: it has no {token}. Copy"
                " tokenizer.json from the original model."
            )
    first = tokens["<|notimestamps|>"] + 1
    for token, number in tokens.items():
        if first <= number < first + _TIMESTAMPS and not _is_timestamp(token):
            raise ModelError(
                f"The tokenizer in {folder} gives the token {token!r} the id {number}, that of a"
                " timestamp. Add tokens to a tokenizer that has Whisper's timestamps."
            )
    return tokens


def _is_timestamp(token: str) -> bool:
    return token.startswith("<|") and token[2:3].isdigit()


def _json(path: Path) -> dict[str, Any]:
    """The file's object; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}. Copy it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object. Copy it from the original model.")
    return content
