"""WhisperQ's own int8, on real weights and speech."""

import pytest
import torch

from whisperq_core.quantize import backends
from whisperq_core.quantize.backends import whole_int8
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.transcription import transcribe


@pytest.fixture(scope="module")
def dynamic(tiny):
    return backends.quantize(tiny.torch_model, recipe("whole-int8-dynamic")).torch_model


def test_one_int8_table_reads_and_writes_tokens(dynamic):
    table, projection = dynamic.model.decoder.embed_tokens, dynamic.proj_out
    assert table.weight is projection.weight
    assert table.weight.dtype == torch.int8
    ids = torch.tensor([[0, 50256, 7]])
    assert torch.equal(table(ids)[0, 1], table.weight[50256] * table.scale[50256])


def test_base_shrinks_by_three_quarters(base):
    quantized = backends.quantize(base.torch_model, recipe("whole-int8-dynamic"))
    fp32_bytes = backends.serialized_bytes(base.torch_model)
    assert 100 * (1 - quantized.weights_bytes / fp32_bytes) == pytest.approx(74.0, abs=0.3)


def test_what_is_stored_in_half_precision_is_computed_in_fp32(dynamic, tiny):
    state = dynamic.state_dict()
    halves = {name for name, value in state.items() if value.dtype == torch.float16}
    assert halves == {
        *(f"model.encoder.conv{i}.{part}" for i in (1, 2) for part in ("weight", "bias")),
        *(f"model.{half}.embed_positions.weight" for half in ("encoder", "decoder")),
    }
    # OpenAI published them so: nothing is lost.
    conv = tiny.torch_model.model.encoder.conv1.weight
    assert torch.equal(state["model.encoder.conv1.weight"].float(), conv)
    assert dynamic.model.encoder.conv1.weight.dtype == torch.float32


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_near_the_fp32_layer_it_replaces(packs, bias, monkeypatch):
    """Rows of very different size, whose errors stay in proportion: each has its own scale."""
    if packs and not whole_int8._packs():
        pytest.skip("this CPU has no int8 instructions that oneDNN would pack for")
    monkeypatch.setattr(whole_int8, "_packs", lambda: packs)
    torch.manual_seed(0)
    plain = torch.nn.Linear(64, 48, bias=bias).requires_grad_(False)
    made = whole_int8.layers()
    layer = made.Int8Linear(*whole_int8._rounded(plain.weight), plain.bias, made.Rows())
    x = torch.randn(2, 5, 64) * torch.logspace(-3, 3, 5)[:, None]
    wanted, found = plain(x), layer(x)
    assert found.shape == wanted.shape
    size = wanted.abs().amax(-1, keepdim=True)
    assert ((found - wanted).abs() / size).max() < 0.03
    assert (layer.packed is None) != packs


def test_both_ways_to_multiply_agree(monkeypatch):
    if not whole_int8._packs():
        pytest.skip("this CPU has no int8 instructions that oneDNN would pack for")
    torch.manual_seed(0)
    made, x = whole_int8.layers(), 5 * torch.randn(40, 64)
    weight = whole_int8._rounded(torch.randn(48, 64))
    packed = made.Int8Linear(*weight, None, made.Rows())(x)
    monkeypatch.setattr(whole_int8, "_packs", lambda: False)
    assert torch.allclose(made.Int8Linear(*weight, None, made.Rows())(x), packed, rtol=1e-6)


def test_without_packed_weights_many_rows_and_few_are_multiplied_exactly(monkeypatch):
    monkeypatch.setattr(whole_int8, "_packs", lambda: False)
    torch.manual_seed(0)
    classes, x = whole_int8.layers(), 5 * torch.randn(40, 64)
    weight, scale = whole_int8._rounded(torch.randn(48, 64))
    rows, steps = classes.Rows()(x)
    exact = (rows.long() @ weight.long().t()).float() * scale * steps
    for part in (slice(0, 40), slice(0, whole_int8._FEW_ROWS)):
        out = classes.Int8Linear(weight, scale, None, classes.Rows())(x[part])
        assert torch.equal(out, exact[part])


def test_rows_are_quantized_once_for_layers_that_share_them():
    rows = whole_int8.layers().Rows()
    x = torch.randn(3, 8)
    assert rows(x) is rows(x)
    assert rows(x.clone()) is not rows(x)
    del x
    other = torch.randn(3, 8)
    assert torch.equal(rows(other)[1], whole_int8.layers().Rows()(other)[1])


def test_silence_has_no_division_by_zero():
    made = whole_int8.layers()
    layer = made.Int8Linear(*whole_int8._rounded(torch.zeros(4, 8)), None, made.Rows())
    assert torch.equal(layer(torch.zeros(2, 8)), torch.zeros(2, 4))


def test_neighbours_in_a_batch_do_not_change_a_transcript(dynamic, tiny):
    utterances = evaluation_sets.by_name("test-clean-excerpt").utterances[:4]
    audio = [evaluation_sets.read_audio(u) for u in utterances]
    together = transcribe(tiny, dynamic, audio, ["en"] * 4, STUDY).texts
    alone = [transcribe(tiny, dynamic, [one], ["en"], STUDY).texts[0] for one in audio]
    assert list(together) == alone


@pytest.mark.parametrize(
    ("rows", "queries", "keys"), [(1, 4, 4), (16, 1, 1500), (1, 1500, 1500), (3, 900, 900)]
)
def test_attention_in_parts_covers_every_row_and_head_once(rows, queries, keys):
    covered = torch.zeros(rows, 6, dtype=torch.int)
    parts = list(whole_int8._attention_parts(rows, 6, queries, keys))
    for part in parts:
        covered[part] += 1
    assert (covered == 1).all()
    assert (len(parts) == 1) == (rows * 6 * 2 * queries * keys <= whole_int8._SCORES_BYTES)


@pytest.mark.parametrize("masked", ["nothing", "positions", "positions of each row"])
def test_attention_in_parts_is_attention(tiny, masked, monkeypatch):
    """Scores of 2 rows and 6 heads of 700 positions are computed in parts."""
    from transformers import AttentionInterface

    model = backends.quantize(tiny.torch_model, recipe("whole-int8-dynamic-bf16")).torch_model
    attend = AttentionInterface()[model.config._attn_implementation]
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 6, 700, 64, generator=draw) for _ in range(3))
    mask = None
    if masked != "nothing":
        rows = 2 if masked == "positions of each row" else 1
        mask = 3 * torch.randn(rows, 1, 1, 700, generator=draw).bfloat16()
    in_parts, _ = attend(None, query, key, value, mask, scaling=0.125)
    scores = query @ key.transpose(2, 3) * 0.125 + (0 if mask is None else mask.float())
    exact = (scores.softmax(-1) @ value).transpose(1, 2)
    assert (in_parts - exact).norm() < 0.02 * exact.norm()
    monkeypatch.setattr(whole_int8, "_SCORES_BYTES", 2**30)
    at_once, _ = attend(None, query, key, value, mask, scaling=0.125)
    assert in_parts == pytest.approx(at_once, abs=1e-3)
