"""A Whisper model in PyTorch, in fp32, with its tokenizer, features and decoding tables."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from whisperq_core.errors import ModelError
from whisperq_core.whisper.features import LogMel
from whisperq_core.whisper.model_settings import DecodingSettings, read_settings
from whisperq_core.whisper.model_sources import Source, download, find, settings_folder
from whisperq_core.whisper.model_weights import model_digest, read_weights
from whisperq_core.whisper.torch_types import Array, Tokenizer, WhisperModule


@dataclass
class Model:
    """fp32 weights, built and ready to be quantized."""

    name: str
    digest: str
    torch_model: WhisperModule
    features: LogMel
    tokenizer: Tokenizer
    source: Source | None = field(repr=False, default=None)

    @cached_property
    def multilingual(self) -> bool:
        """Whether it knows other languages than English."""
        multilingual: bool = self.torch_model.generation_config.is_multilingual
        return multilingual

    def require_english(self, languages: Iterable[str | None], task: str) -> None:
        """Raises ModelError where an English-only model is asked for anything else."""
        if not self.multilingual and (task != "transcribe" or set(languages) - {"en", None}):
            raise ModelError(
                f"{self.name} supports English only. Choose a multilingual model, such as base,"
                " to transcribe other languages or to translate."
            )

    def tokens(self, text: str, language: str, task: str) -> list[int]:
        """A whole decoder sequence for the text: start, language, task, words, end."""
        words = self.tokenizer(" " + text, add_special_tokens=False).input_ids
        end = self.torch_model.generation_config.eos_token_id
        return [*self.prompt(language, task), *words, end]

    def prompt(self, language: str | None, task: str) -> list[int]:
        """The decoder's first tokens: start, language, task, no timestamps."""
        tables, ids = self.torch_model.generation_config, self.tokenizer.convert_tokens_to_ids
        chosen = [ids(f"<|{language}|>"), tables.task_to_id[task]] if self.multilingual else []
        return [tables.decoder_start_token_id, *chosen, tables.no_timestamps_token_id]


def load(model: str | Source) -> Model:
    """The model of that name or source, downloaded if need be, in fp32 on the CPU."""
    quieten_libraries()
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    source = download(find(model) if isinstance(model, str) else model)
    name = model if isinstance(model, str) else model.name
    tensors = read_weights(source)
    folder = settings_folder(source)
    settings, tokenizer = read_settings(folder), read_tokenizer(folder)
    dimensions = _dimensions(tensors, settings)
    _check_settings(name, settings, dimensions)
    config = WhisperConfig(**dimensions, **_token_ids(tokenizer))
    with torch.device("meta"):
        torch_model = WhisperForConditionalGeneration(config)
    state = {key: torch.from_numpy(value) for key, value in tensors.items()}
    missing, unexpected = torch_model.load_state_dict(state, strict=False, assign=True)
    if unexpected or set(missing) - {"proj_out.weight"}:
        raise ModelError(
            f"The weights of {name} do not fit Whisper's architecture:"
            f" {sorted(set(missing) | set(unexpected))[:3]} …"
        )
    torch_model.tie_weights()
    torch_model.requires_grad_(False).eval()  # type: ignore[no-untyped-call]
    torch_model.generation_config = _generation_config(settings, tokenizer, dimensions)
    features = LogMel(config.num_mel_bins)
    return Model(name, model_digest(tensors, source), torch_model, features, tokenizer, source)


def _check_settings(name: str, settings: DecodingSettings, dimensions: dict[str, Any]) -> None:
    """Raises ModelError where tokenizer or suppressed tokens do not fit the token embeddings."""
    rows, needed = dimensions["vocab_size"], max(settings.tokens.values()) + 1
    # The tokenizer may lack timestamps, and rows beyond the tokens are padding.
    if needed > rows:
        raise ModelError(
            f"The tokenizer of {name} needs {needed} rows and the token embeddings have {rows}:"
            " they belong to different models. Copy the tokenizer that was saved with these"
            " weights."
        )
    suppressed = (*settings.suppress_tokens, *settings.begin_suppress_tokens)
    if wrong := [token for token in suppressed if not 0 <= token < rows]:
        raise ModelError(
            f"The settings of {name} suppress token {wrong[0]}, and the token embeddings have"
            f" {rows} rows. Copy the generation_config.json that was saved with these weights."
        )


def quieten_libraries() -> None:
    """Before torch is imported: Transformers' log, and torchao's, which looks for CUDA libraries
    when imported and says at length that a CPU has none.
    """
    for noisy in ("torchao", "torch.utils._pytree"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def random_model(name: str) -> WhisperModule:
    """A model of the named size with random weights, for sizes that need no real ones.

    Raises ModelError for a name whose shape is not known.
    """
    if name not in _SHAPES:
        raise ModelError(
            f"The architecture of “{name}” is unknown. Known models: {', '.join(_SHAPES)}."
        )
    quieten_libraries()
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    layers, width, heads = _SHAPES[name]
    config = WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
    )
    # Shapes first, then one block of random numbers over and over: drawing each weight of a large
    # model by itself takes three times as long.
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config).requires_grad_(False)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * config.init_std
    for parameter in model.parameters():
        count = parameter.numel()
        numbers = block[:count] if count <= len(block) else block.repeat(-(-count // len(block)))
        parameter.copy_(numbers[:count].view_as(parameter))
    return model.eval()  # type: ignore[no-untyped-call]


# Layers, width and heads of the multilingual models (Radford et al. 2022, table 1).
_SHAPES = {
    "tiny": (4, 384, 6),
    "base": (6, 512, 8),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
}


def _dimensions(tensors: dict[str, Array], settings: DecodingSettings) -> dict[str, Any]:
    """The architecture's sizes, from the tensors themselves; only the heads are not in them."""

    def layers(part: str) -> int:
        prefix = f"model.{part}.layers."
        return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in tensors if prefix in n)

    width = tensors["model.decoder.embed_tokens.weight"].shape[1]
    # Every published Whisper has heads of 64 dimensions; a config.json that differs is believed.
    encoder_heads, decoder_heads = (heads or width // 64 for heads in settings.attention_heads)
    return {
        "vocab_size": tensors["model.decoder.embed_tokens.weight"].shape[0],
        "num_mel_bins": tensors["model.encoder.conv1.weight"].shape[1],
        "d_model": width,
        "encoder_layers": layers("encoder"),
        "decoder_layers": layers("decoder"),
        "encoder_attention_heads": encoder_heads,
        "decoder_attention_heads": decoder_heads,
        "encoder_ffn_dim": tensors["model.encoder.layers.0.fc1.weight"].shape[0],
        "decoder_ffn_dim": tensors["model.decoder.layers.0.fc1.weight"].shape[0],
        "max_source_positions": tensors["model.encoder.embed_positions.weight"].shape[0],
        "max_target_positions": tensors["model.decoder.embed_positions.weight"].shape[0],
    }


def read_tokenizer(folder: Path) -> Tokenizer:
    """Whisper's tokenizer from tokenizer.json, or from vocab.json and merges.txt.

    Raises ModelError where the folder has neither.
    """
    from transformers import WhisperTokenizerFast  # type: ignore[attr-defined]

    if (folder / "tokenizer.json").is_file():
        return WhisperTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return WhisperTokenizerFast.from_pretrained(folder)
    raise ModelError(f"{folder} has no tokenizer.json. Copy it there from the original model.")


def _token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
    }


def _generation_config(
    settings: DecodingSettings, tokenizer: Tokenizer, dimensions: dict[str, Any]
) -> Any:
    """Whisper's decoding tables, the same from every source: ids from the tokenizer, suppressed
    tokens and alignment heads from the settings.

    Alignment heads are left out where one of them does not exist, as after a distillation that
    kept the file of the larger model: words are then spread evenly over their segment.
    """
    from transformers import GenerationConfig
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    layers, heads = dimensions["decoder_layers"], dimensions["decoder_attention_heads"]
    exist = all(
        0 <= layer < layers and 0 <= head < heads for layer, head in settings.alignment_heads
    )
    ids = tokenizer.convert_tokens_to_ids
    vocabulary = tokenizer.get_vocab()
    # English-only vocabularies end one token earlier: their end of text is 50256. They have tokens
    # for languages, but generate() would put one into the prompt if it were told of them.
    multilingual = settings.end_token == 50257
    tables = {}
    if multilingual:
        codes = [f"<|{code}|>" for code in LANGUAGES if f"<|{code}|>" in vocabulary]
        tables["lang_to_id"] = {code: ids(code) for code in codes}
        tables["task_to_id"] = {task: ids(f"<|{task}|>") for task in ("transcribe", "translate")}
    return GenerationConfig(  # type: ignore[no-untyped-call]
        **_token_ids(tokenizer),
        max_length=448,
        is_multilingual=multilingual,
        **tables,
        no_timestamps_token_id=ids("<|notimestamps|>"),
        prev_sot_token_id=ids("<|startofprev|>"),
        max_initial_timestamp_index=50,
        suppress_tokens=list(settings.suppress_tokens),
        begin_suppress_tokens=list(settings.begin_suppress_tokens),
        alignment_heads=[[*pair] for pair in settings.alignment_heads] if exist else [],
        return_timestamps=False,
    )
