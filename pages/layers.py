"""Sensitivity of each layer to quantization, and the bits it gets for a chosen size."""

import streamlit as st

from pages._code import draw_code
from pages._figures import draw
from pages._navigation import open_in_app
from pages._view import View
from whisperq_core.errors import RecipeUnsupported
from whisperq_core.present import glossary, layer_charts, markup
from whisperq_core.present.layer_charts import Budget
from whisperq_core.quantize import sensitivity_results
from whisperq_core.quantize.recipes import BITS
from whisperq_core.quantize.sensitivity_results import Sensitivity

COMMAND = "python -m whisperq_core sensitivity --models base"
STEP_PCT = 0.5
DEFAULT_REDUCTION_PCT = 84
BY_KEY = {Sensitivity: lambda sensitivity: sensitivity.conditions.key}


@st.cache_data(show_spinner=False, hash_funcs=BY_KEY)
def formats_for(sensitivity: Sensitivity, reduction_pct: float) -> dict[str, str]:
    return sensitivity.formats_for(reduction_pct)


@st.cache_data(show_spinner=False, hash_funcs=BY_KEY)
def feasible_budgets(sensitivity: Sensitivity) -> list[Budget]:
    """The best allocation at every step, from all layers at the most bits to all at the fewest."""
    widest, *_, narrowest = sensitivity.conditions.formats
    low, high = (
        sensitivity.smaller_pct({layer.module: name for layer in sensitivity.layers})
        for name in (widest, narrowest)
    )
    budgets = []
    for step in range(int(low / STEP_PCT) + 1, int(high / STEP_PCT) + 1):
        try:
            formats = sensitivity.formats_for(step * STEP_PCT)
        except RecipeUnsupported:
            break
        budgets.append(Budget(step * STEP_PCT, sensitivity.predicted_nats(formats)))
    return budgets


def describe_measurement(sensitivity: Sensitivity) -> None:
    st.caption(
        "Loss: mean Kullback-Leibler divergence of the next-token distribution from fp32's, in"
        " nats per token, with only that layer quantized. Both models are given fp32's"
        f" transcript (teacher forcing): {sensitivity.tokens} tokens of"
        f" {len(sensitivity.utterances)} utterances of"
        f" {markup.escape_markdown(sensitivity.eval_set)}, which is not part of any test set."
        " Weights below 8 bits are rounded by GPTQ, calibrated on the set's other utterances."
        f" Measured in {sensitivity.measured_s / 60:.0f} min on"
        f" {markup.escape_markdown(sensitivity.machine.cpu)}."
    )


def show_metrics(sensitivity: Sensitivity, formats: dict[str, str]) -> None:
    size = sensitivity.fp32_bytes * (1 - sensitivity.smaller_pct(formats) / 100)
    weights = {layer.module: layer.rows * layer.columns for layer in sensitivity.layers}
    bits = sum(BITS[formats[module]] * count for module, count in weights.items())
    offered = sensitivity.conditions.formats
    counts = [list(formats.values()).count(name) for name in offered]
    columns = st.columns([3, 4, 4, 5])
    columns[0].metric("Size", f"{size / 1e6:.1f} MB", help=glossary.definition("Size"))
    columns[1].metric(
        "Bits per weight (excluding scales)",
        f"{bits / sum(weights.values()):.2f}",
        help=glossary.definition("bits"),
    )
    columns[2].metric(
        "Predicted loss (nats per token)",
        f"{sensitivity.predicted_nats(formats):.3g}",
        help=glossary.definition("nats per token"),
    )
    columns[3].metric(
        f"Layers at {', '.join(str(BITS[name]) for name in offered)} bits",
        " · ".join(map(str, counts)),
    )


def show_additivity(sensitivity: Sensitivity) -> None:
    st.header("Are layer losses additive?")
    st.markdown(
        "The bit allocation assumes that layer losses add up. To check this, whole quantized"
        " models were measured on the same utterances. Losses are in nats per token."
    )
    st.table(
        [
            {
                "Model": check.name,
                "Size reduction": f"{check.smaller_pct:.1f} %",
                "Sum of layer losses": f"{check.predicted_nats:.3g}",
                "Measured loss": f"{check.measured.nats:.3g}",
                "Most likely token changed": f"{100 * check.measured.changed:.1f} %",
            }
            for check in sensitivity.checks
        ],
        border="horizontal",
        hide_index=True,
    )


def main(view: View) -> None:
    by_model = {s.model: s for s in sensitivity_results.stored_measurements()}
    if not by_model:
        st.info("No layer sensitivities are stored yet. Measure them on the command line:")
        draw_code(COMMAND, "command")
        return
    model = view.one_of(
        "Model",
        list(by_model),
        "layers_model",
        "base" if "base" in by_model else next(iter(by_model)),
        st.segmented_control,
        required=True,
    )
    sensitivity = by_model[model]
    budgets = feasible_budgets(sensitivity)
    reductions = [budget.smaller_pct for budget in budgets]
    reduction_pct = view.one_of(
        "Size reduction (%)",
        reductions,
        "layers_smaller",
        min(reductions, key=lambda pct: abs(pct - DEFAULT_REDUCTION_PCT)),
        st.select_slider,
        help=glossary.definition("size reduction"),
    )
    formats = formats_for(sensitivity, reduction_pct)
    show_metrics(sensitivity, formats)
    coloured_format = view.one_of(
        "Colour: sensitivity at",
        list(sensitivity.conditions.formats),
        "layers_format",
        "int4",
        st.segmented_control,
        required=True,
    )
    draw(
        layer_charts.sensitivity_map(sensitivity, coloured_format, formats),
        f"{model}: layer sensitivity at {coloured_format}, and bits per layer at a size reduction"
        f" of {reduction_pct:g} %",
        key="layer-map",
        alt=(
            f"Sensitivity of each layer at {coloured_format}, and the bits allocated to it at"
            " this size."
        ),
    )
    st.caption("Numbers in cells: bits of the layer at the size reduction selected above.")
    describe_measurement(sensitivity)
    st.header("Loss by size")
    selected = Budget(reduction_pct, sensitivity.predicted_nats(formats))
    draw(
        layer_charts.size_loss_figure(sensitivity, budgets, selected),
        f"{model}: loss by size",
        key="loss-by-size",
        alt="Predicted and measured loss by size.",
    )
    show_additivity(sensitivity)
    st.markdown(f"To measure another model: `{COMMAND.replace('base', '<model>')}`")


open_in_app("layers.py")
st.title("Layers")
st.markdown(
    "**How many bits does each layer need?** The study leaves mixed precision to future work."
    " Here each layer was quantized alone, in each format. The recipes `mixed-84`,"
    " `mixed-84-dynamic` and any other `mixed-…` choose each layer's bits so that the predicted"
    " loss is lowest for their size."
)
with View("layers") as page:
    main(page)
