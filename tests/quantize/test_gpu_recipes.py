"""What of recipes for GPUs can be emulated: formats, devices other than the CPU, recorded steps.

A model on the "meta" device has no data, but every operation checks number formats and devices, as
on a GPU. Small random weights stand for real ones where only that is looked at.
"""

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tests.support.quick_rounding import leave_out_search
from whisperq_core import machine
from whisperq_core.errors import ModelError, RecipeUnsupported
from whisperq_core.memory import MemoryGrowth
from whisperq_core.quantize import backends, pipeline
from whisperq_core.quantize.backends import linear_layers
from whisperq_core.quantize.model_parts import assemble, disassemble
from whisperq_core.quantize.recipes import CATALOGUE, recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import generation, short_window, static_decoder
from whisperq_core.whisper.models import quieten_libraries
from whisperq_core.whisper.protocols import CORRECTED, FITTED, MERGED, STUDY
from whisperq_core.whisper.static_decoder import StaticDecoder
from whisperq_core.whisper.transcription import transcribe

ON_GPUS = [r for r in CATALOGUE.values() if r.devices == ("cuda",)]
IN_PYTORCH = [r for r in ON_GPUS if not r.has_own_runtime]
COMPILED = [r for r in IN_PYTORCH if r.compiled]
# Recipes for CPUs and GPUs that the study, and users, run on a GPU.
ALSO_ON_GPUS = [
    recipe(name)
    for name in ("fp32", "fp16", "bf16", "quanto-int8", "torchao-int8", "hqq-int4-g64", "bnb-int8")
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Steps are traced, and no code is generated; float8 needs no GPU that has it."""
    leave_out_search(monkeypatch)
    monkeypatch.setattr(static_decoder, "COMPILER", "eager")
    monkeypatch.setattr("torchao.quantization.quant_api._check_hardware_support", lambda _: None)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def untraced(monkeypatch):
    """Where only formats are looked at, not what the compiler makes of a layer."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **options: None)


def small_model(device="cpu"):
    quieten_libraries()
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=128,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        vocab_size=1001,
        max_source_positions=100,
        suppress_tokens=[3],
        begin_suppress_tokens=[2],
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
        decoder_start_token_id=1,
        init_std=0.2,  # with smaller weights, a token is followed by itself
    )
    return WhisperForConditionalGeneration(config).requires_grad_(False).eval().to(device)


def quantized(model, chosen):
    """As `backends.quantize` does it, on whatever device the model is."""
    work = linear_layers.copy_sharing_tensors(model)
    if chosen.compute != "fp32":
        work = work.to(linear_layers.dtype_of(chosen.compute))
    if chosen.modules == "all-linear":
        linear_layers.untie(work)
    with torch.no_grad():
        work = backends.module_of(chosen).quantize(work, chosen, None)
    if chosen.compiled:
        backends.compile_as(work, chosen)
    return work


def format_of(chosen):
    formats = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return formats[chosen.weights if chosen.is_baseline else chosen.compute]


def check_formats(model, chosen, device):
    """Encoder, prompt and one static step compute in the recipe's format on the device."""
    dtype = model.model.encoder.conv1.weight.dtype
    assert dtype == format_of(chosen)
    features = torch.zeros(2, 80, 200, dtype=dtype, device=device)
    ids = torch.ones(2, 4, dtype=torch.long, device=device)
    with torch.no_grad():
        logits = model(input_features=features, decoder_input_ids=ids).logits
        assert (logits.dtype, logits.device.type) == (dtype, device)
        if not chosen.compiled:
            return
        decoder = StaticDecoder(model, 4, 512, features[0, :1, :128])
        decoder.next_tokens(ids)
        decoder._step()
        assert (decoder._self_kv[0].keys.dtype, decoder._tokens.device.type) == (dtype, device)


@pytest.mark.parametrize("chosen", [*IN_PYTORCH, *ALSO_ON_GPUS], ids=lambda chosen: chosen.name)
def test_formats_fit_together(chosen):
    check_formats(quantized(small_model(), chosen), chosen, "cpu")


# bitsandbytes quantizes data, and PyTorch's int4 kernels have no meta form outside the compiler.
NOT_WITHOUT_DATA = ("bitsandbytes", "hqq")


@pytest.mark.parametrize(
    "chosen",
    [r for r in (*IN_PYTORCH, *ALSO_ON_GPUS) if r.backend not in NOT_WITHOUT_DATA],
    ids=lambda chosen: chosen.name,
)
def test_nothing_is_left_on_the_cpu(chosen, untraced):
    check_formats(quantized(small_model("meta"), chosen), chosen, "meta")


@pytest.mark.parametrize("chosen", ON_GPUS, ids=lambda chosen: chosen.name)
def test_elsewhere_recipes_for_gpus_are_refused_with_the_reason(chosen):
    for device in ("cpu", "mps"):
        reason = backends.unavailable_reason(chosen, device)
        assert reason.startswith(f"{chosen.name} ") and reason.endswith(".") and "cuda" in reason
    with pytest.raises(RecipeUnsupported, match=r"on cuda"):
        backends.require(chosen, "cpu")


def test_half_precision_names_what_to_choose_instead():
    for chosen in (r for r in IN_PYTORCH if r.compute != "fp32" and not r.compiled):
        instead = backends.unavailable_reason(chosen, "cpu").split("choose ")[1].split(" ")[0]
        assert backends.unavailable_reason(recipe(instead), "cpu") is None


@pytest.mark.parametrize(
    ("capability", "name", "reason"),
    [
        ((7, 5), "bf16", "compute capability 7.5 and no bf16 products; Ampere"),
        ((7, 5), "fp16", None),
        ((8, 0), "torchao-float8-dynamic-compiled", "no float8 products; Ada or Hopper"),
        ((8, 0), "torchao-int8-dynamic-compiled", None),
        ((8, 0), "quanto-float8", None),
        ((9, 0), "torchao-float8-dynamic-compiled", None),
        (None, "torchao-float8-dynamic-compiled", None),
    ],
)
def test_formats_that_a_gpu_lacks_are_refused(monkeypatch, capability, name, reason):
    monkeypatch.setattr(machine, "gpu_capability", lambda: capability)
    found = backends.unavailable_reason(recipe(name), "cuda")
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize("chosen", COMPILED, ids=lambda chosen: chosen.name)
def test_compiled_recipes_decode_greedily(chosen):
    assert "greedy decoding only" in pipeline.unsupported_reason(chosen, CORRECTED, "cuda")
    for protocol in (STUDY, FITTED, MERGED):
        assert pipeline.unsupported_reason(chosen, protocol, "cuda") is None


# The format of each recipe, so that words can be compared with those of the model in fp32.
COMPILED_FP32 = replace(recipe("bf16-compiled"), weights="fp32")


@pytest.fixture(scope="module")
def spoken():
    found = evaluation_sets.by_name("test-clean-excerpt").utterances
    shortest = sorted(found, key=lambda u: u.duration_s)[:3]
    return [evaluation_sets.read_audio(u) for u in shortest]


def test_a_static_decoder_chooses_the_same_tokens(tiny, spoken, monkeypatch):
    expected = transcribe(tiny, tiny.torch_model, spoken, ["en"] * 3, FITTED)
    model, passes = quantized(tiny.torch_model, COMPILED_FP32), []
    generate = short_window._generate
    monkeypatch.setattr(
        short_window, "_generate", lambda *given: passes.append(1) or generate(*given)
    )
    found = transcribe(tiny, model, spoken, ["en"] * 3, FITTED)
    assert (found.texts, found.tokens) == (expected.texts, expected.tokens)
    # Three rows are padded to four. The first batch of a size compiles, and is generated again, to
    # be measured; the next one is not.
    assert [*model.compiled_decoding.decoders] == [(4, 512)] and len(passes) == 2
    backwards = transcribe(tiny, model, spoken[::-1], ["en"] * 3, FITTED)
    assert backwards.texts == expected.texts[::-1] and len(passes) == 3
    with pytest.raises(ModelError, match="needs the language"):
        transcribe(tiny, model, spoken[:1], [None], FITTED)


def test_in_a_whole_window_it_chooses_the_tokens_of_generate(tiny, spoken):
    expected = transcribe(tiny, tiny.torch_model, spoken[:1], ["en"], STUDY)
    model = quantized(tiny.torch_model, COMPILED_FP32)
    found = transcribe(tiny, model, spoken[:1], ["en"], STUDY)
    assert (found.texts, found.tokens) == (expected.texts, expected.tokens)
    assert [*model.compiled_decoding.decoders] == [(1, 1536)] and found.redone == (False,)


def tokens_of(model, steps=4) -> list[list[int]]:
    """What a static decoder chooses for two rows of noise: after a prompt, step by step."""
    torch.manual_seed(1)
    features = torch.randn(2, 80, 200).to(model.model.encoder.conv1.weight.dtype)
    with torch.no_grad():
        states = model.model.encoder(features).last_hidden_state
        encoded = [(row, torch.zeros(len(row))) for row in states]
        decoder = static_decoder.decoder_for(model, encoded)
        tokens = [decoder.next_tokens(torch.ones(2, 4, dtype=torch.long)).clone()]
        for _ in range(steps):
            tokens.append(decoder.next_tokens(tokens[-1][:, None]).clone())
    return torch.stack(tokens, dim=1).tolist()


@pytest.mark.parametrize("chosen", COMPILED, ids=lambda chosen: chosen.name)
def test_a_graph_of_operators_without_a_break_chooses_the_tokens_of_the_layers(chosen, monkeypatch):
    """As Inductor is given it: traced with fake tensors, and lowered to operators."""
    monkeypatch.setattr(static_decoder, "COMPILER", "aot_eager")
    torch._dynamo.utils.counters.clear()
    compiled = tokens_of(quantized(small_model(), chosen))
    counted = torch._dynamo.utils.counters
    assert counted["stats"]["unique_graphs"] >= 2 and not counted["graph_break"]
    assert counted["aot_autograd"]["ok"] >= 2
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **options: None)
    assert compiled == tokens_of(quantized(small_model(), chosen))
    assert len({token for row in compiled for token in row}) > 1


with_compiler = pytest.mark.skipif(
    not shutil.which("g++") and not os.environ.get("CI"),
    reason="PyTorch's compiler for CPUs needs g++",
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@with_compiler
def test_compiled_code_chooses_the_tokens_of_the_layers(tiny, spoken, monkeypatch, tmp_path):
    """Inductor's own code, C++ for the CPU instead of kernels for a GPU."""
    monkeypatch.setattr(static_decoder, "COMPILER", "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    expected = transcribe(tiny, tiny.torch_model, spoken[:1], ["en"], FITTED)
    torch._dynamo.utils.counters.clear()
    compiled = transcribe(
        tiny, quantized(tiny.torch_model, COMPILED_FP32), spoken[:1], ["en"], FITTED
    )
    assert (compiled.texts, compiled.tokens) == (expected.texts, expected.tokens)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert len(list(tmp_path.rglob("*.so"))) >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@with_compiler
def test_compiled_int8_products_choose_the_tokens_of_the_layers(monkeypatch, tmp_path):
    """By scalar code: where Inductor stores a bf16 maximum as a vector more than once, for layers
    that round the same input, it declares a variable twice, and g++ refuses that."""
    import torch._inductor.config as inductor

    chosen = recipe("torchao-int8-dynamic-compiled")
    monkeypatch.setattr(static_decoder, "COMPILER", "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor.patch({"cpp.simdlen": 1}):
        compiled = tokens_of(quantized(small_model(), chosen))
    assert list(tmp_path.rglob("*.so"))
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **options: None)
    assert compiled == tokens_of(quantized(small_model(), chosen))


@contextmanager
def emulated_graphs(monkeypatch, log):
    """CUDA graphs that run the recorded step again when they are launched."""

    class Graph:
        def replay(self):
            log.append("replay")
            self.recorded()

    class Stream:
        def wait_stream(self, other):
            log.append("wait")

    @contextmanager
    def recording(graph):
        log.append("record")
        yield

    @contextmanager
    def on_stream(stream):
        log.append("stream")
        yield

    started = StaticDecoder.__init__

    def start(self, *given):
        started(self, *given)
        self._records = True
        Graph.recorded = staticmethod(self._step)

    monkeypatch.setattr(StaticDecoder, "__init__", start)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on_stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    yield


def test_on_a_gpu_a_step_is_recorded_once_and_launched_for_every_token(tiny, spoken, monkeypatch):
    expected = transcribe(tiny, tiny.torch_model, spoken[:1], ["en"], FITTED)
    log = []
    with emulated_graphs(monkeypatch, log):
        model = quantized(tiny.torch_model, COMPILED_FP32)
        found = transcribe(tiny, model, spoken[:1], ["en"], FITTED)
    assert found.texts == expected.texts
    assert log[:4] == ["wait", "stream", "wait", "record"]
    # The prompt gives the first token; the batch is generated twice, for it is the first.
    assert log[4:] == ["replay"] * 2 * (found.tokens - 1)


def test_whole_windows_are_encoded_together_on_a_gpu(tiny, spoken, monkeypatch):
    features, seconds = tiny.features.windows(spoken[:2]), [30.0, 30.0]
    window = short_window.WHOLE
    with torch.no_grad():
        alone = short_window._encode_batch(tiny.torch_model, features, seconds, window)
        monkeypatch.setattr(short_window, "_is_parallel", lambda features: True)
        passes = []
        layer = tiny.torch_model.model.encoder.layers[0]
        hook = layer.register_forward_hook(lambda *given: passes.append(1))
        together = short_window._encode_batch(tiny.torch_model, features, seconds, window)
        hook.remove()
    assert len(passes) == 1
    for (a, _), (b, _) in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_int8_products_get_the_rows_that_they_need_on_a_gpu():
    model = quantized(small_model(), recipe("torchao-int8-dynamic-compiled"))
    encoded = [(torch.zeros(100, 128, dtype=torch.bfloat16), torch.zeros(100))]
    decoder = static_decoder.decoder_for(model, encoded)
    assert len(decoder._ids) == 32 > 16
    plain = quantized(small_model(), recipe("bf16-compiled"))
    assert len(static_decoder.decoder_for(plain, encoded)._ids) == 1


def test_int4_kernels_multiply_by_hqqs_weights():
    chosen = recipe("hqq-int4-g64-compiled")
    model = small_model().to(torch.bfloat16)
    by_hqq = quantized(model, recipe("hqq-int4-g64"))
    by_kernels = quantized(model, chosen)
    weight_of = backends.module_of(chosen).weight_of
    name = "model.decoder.layers.0.fc1"
    expected, found = (weight_of(m.get_submodule(name)).float() for m in (by_hqq, by_kernels))
    step = (expected.max() - expected.min()) / 15
    assert (found - expected).abs().max() < 0.05 * step
    layer, rows = by_kernels.get_submodule(name), torch.randn(3, 128).bfloat16()
    exact = torch.nn.functional.linear(rows.float(), found, layer.bias.float())
    torch.testing.assert_close(layer(rows).float(), exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    "name", ["hqq-int4-g64-compiled", "torchao-float8-dynamic-compiled", "bf16-compiled"]
)
def test_exported_models_are_compiled_again(name, untraced):
    chosen, model = recipe(name), small_model()
    parts = disassemble(backends.Quantized(quantized(model, chosen), chosen, "library", (), 0, 0))
    again = small_model("meta")
    assemble(parts, chosen, again, "cpu")
    assert static_decoder.is_compiled(again)
    check_formats(again, chosen, "cpu")


def test_memory_and_synchronization_ask_cuda(monkeypatch):
    log, allocated = [], iter([100])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: next(allocated))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 350)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    with MemoryGrowth("cuda") as growth:
        generation.synchronize("cuda")
    assert growth.bytes == 250
    assert log == ["reset", "synchronize"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("faster-whisper-fp32", "float32"),
        ("faster-whisper-int8", "int8"),
        ("faster-whisper-fp16", "float16"),
        ("faster-whisper-int8-fp16", "int8_float16"),
        ("faster-whisper-int8-bf16", "int8_bfloat16"),
    ],
)
def test_ctranslate2_is_asked_for_the_recipes_formats(name, kind, tiny, monkeypatch):
    import faster_whisper

    asked = {}

    def opened(folder, **options):
        asked.update(options)
        raise RuntimeError("no GPU here")

    monkeypatch.setattr(faster_whisper, "WhisperModel", opened)
    chosen = recipe(name)
    device = chosen.devices[0]
    with pytest.raises(RuntimeError, match="no GPU here"):
        backends.module_of(chosen).open_runtime(tiny, chosen, 1, device)
    assert asked == {"device": device, "compute_type": kind, "cpu_threads": 1}
