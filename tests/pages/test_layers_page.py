"""The page of layers, run by Streamlit's own test harness, and its figures."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.opened_pages import codes, opened
from whisperq_core import settings
from whisperq_core.present import layer_charts
from whisperq_core.quantize import sensitivity_results


@pytest.fixture(scope="module")
def base() -> sensitivity_results.Sensitivity:
    return next(s for s in sensitivity_results.stored_measurements() if s.model == "base")


def metric(app: AppTest, label: str) -> str:
    return next(m.value for m in app.metric if m.label == label)


def test_it_opens_on_base_at_84_percent(base):
    app = opened("layers")
    predicted = base.predicted_nats(base.formats_for(84))
    assert metric(app, "Predicted loss (nats per token)") == f"{predicted:.3g}"
    assert float(metric(app, "Size").removesuffix(" MB")) <= round(0.16 * base.fp32_bytes / 1e6, 1)


def test_a_larger_budget_loses_less():
    app = opened("layers")
    before = float(metric(app, "Predicted loss (nats per token)"))
    app.select_slider(key="layers_smaller").set_value(78.0).run()
    assert not app.exception
    assert float(metric(app, "Predicted loss (nats per token)")) < before


def test_without_measurements_the_command_is_shown(store, monkeypatch):
    monkeypatch.setattr(settings, "SHIPPED_CACHE", store.root)
    app = opened("layers")
    assert "whisperq_core sensitivity" in codes(app)[0]


def test_the_map_has_every_layer_in_order_and_the_bits_it_gets(base):
    formats = base.formats_for(84)
    (cells,) = layer_charts.sensitivity_map(base, "int4", formats).data
    blocks = [*(f"Encoder {i}" for i in range(1, 7)), *(f"Decoder {i}" for i in range(1, 7))]
    assert list(cells.y) == [*blocks, "Token embeddings"]
    texts = [text for row in cells.text for text in row if text]
    assert len(texts) == 97 and set(texts) <= set("34568")
    place = list(cells.y).index("Decoder 3"), list(cells.x).index("cross out")
    name = "model.decoder.layers.2.encoder_attn.out_proj"
    assert cells.text[place[0]][place[1]] == formats[name].removeprefix("int")
    assert f"allocated: {formats[name]}" in cells.hovertext[place[0]][place[1]]


def test_blocks_of_the_encoder_have_no_cross_attention(base):
    (cells,) = layer_charts.sensitivity_map(base, "int3", base.formats_for(80)).data
    column = list(cells.x).index("cross q")
    filled = [row[column] is not None for row in cells.z]
    assert filled == [False] * 6 + [True] * 7


def test_loss_by_size_shows_what_was_measured_of_whole_models(base):
    budgets = [
        layer_charts.Budget(pct, base.predicted_nats(base.formats_for(pct))) for pct in (78, 84)
    ]
    figure = layer_charts.size_loss_figure(base, budgets, budgets[1])
    measured = next(trace for trace in figure.data if trace.name == "whole model, measured")
    assert list(measured.y) == [check.measured.nats for check in base.checks]
    assert figure.layout.yaxis.type == "log"
