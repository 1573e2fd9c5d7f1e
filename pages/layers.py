"""What each layer loses when it alone is quantized, and how many bits it gets for a size."""

import streamlit as st

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


@st.cache_data(show_spinner=False, hash_funcs={Sensitivity: lambda one: one.conditions.key})
def formats_for(one: Sensitivity, smaller_pct: float) -> dict[str, str]:
    return one.formats_for(smaller_pct)


@st.cache_data(show_spinner=False, hash_funcs={Sensitivity: lambda one: one.conditions.key})
def budgets_of(one: Sensitivity) -> list[Budget]:
    """The best choice at every step from all layers at most bits to all at fewest."""
    widest, *_, narrowest = one.conditions.formats
    low, high = (
        one.smaller_pct({layer.module: name for layer in one.layers})
        for name in (widest, narrowest)
    )
    steps = range(int(low / STEP_PCT) + 1, int(high / STEP_PCT) + 1)
    found = []
    for step in steps:
        try:
            formats = one.formats_for(step * STEP_PCT)
        except RecipeUnsupported:
            break
        found.append(Budget(step * STEP_PCT, one.predicted_nats(formats)))
    return found


def about(one: Sensitivity) -> None:
    st.caption(
        f"Loss is the mean Kullback-Leibler divergence between the next token's distribution under"
        f" fp32 and with that layer alone quantized, in nats a token, both given what fp32 heard"
        f" ({one.tokens} tokens of {len(one.utterances)} utterances of"
        f" {markup.escape_markdown(one.eval_set)}, held out from every test set). Weights below 8"
        f" bits are rounded by GPTQ for the speech of the set's other utterances. Measured in"
        f" {one.measured_s / 60:.0f} min on {markup.escape_markdown(one.machine.cpu)}."
    )


def metrics(one: Sensitivity, formats: dict[str, str]) -> None:
    size = one.fp32_bytes * (1 - one.smaller_pct(formats) / 100)
    weights = {layer.module: layer.rows * layer.columns for layer in one.layers}
    bits = sum(BITS[formats[module]] * count for module, count in weights.items())
    offered = one.conditions.formats
    counts = [list(formats.values()).count(name) for name in offered]
    columns = st.columns([3, 4, 4, 5])
    columns[0].metric("Size", f"{size / 1e6:.1f} MB", help=glossary.definition("Size"))
    columns[1].metric(
        "Bits a weight, scales aside",
        f"{bits / sum(weights.values()):.2f}",
        help=glossary.definition("bits"),
    )
    columns[2].metric(
        "Predicted loss, nats a token",
        f"{one.predicted_nats(formats):.3g}",
        help=glossary.definition("nats a token"),
    )
    columns[3].metric(
        f"Layers of {', '.join(str(BITS[name]) for name in offered)} bits",
        " · ".join(map(str, counts)),
    )


def checks(one: Sensitivity) -> None:
    st.header("Do the losses of layers add up?")
    st.markdown(
        "The choice assumes so, as small independent disturbances do. Whole models were measured to"
        " see how nearly:"
    )
    st.table(
        [
            {
                "Model": check.name,
                "Smaller by": f"{check.smaller_pct:.1f} %",
                "Sum of its layers": f"{check.predicted_nats:.3g} nats a token",
                "Measured as a whole": f"{check.measured.nats:.3g} nats a token",
                "Tokens changed": f"{100 * check.measured.changed:.1f} %",
            }
            for check in one.checks
        ],
        border="horizontal",
        hide_index=True,
    )


def main(view: View) -> None:
    known = {one.model: one for one in sensitivity_results.stored_measurements()}
    if not known:
        st.info("No model's layers were measured yet. Measure them on the command line:")
        st.code(COMMAND, language="bash")
        return
    model = view.one_of(
        "Model",
        list(known),
        "layers_model",
        "base" if "base" in known else next(iter(known)),
        st.segmented_control,
        required=True,
    )
    one = known[model]
    budgets = budgets_of(one)
    offered = [budget.smaller_pct for budget in budgets]
    smaller_pct = view.one_of(
        "Smaller than fp32 by (%)",
        offered,
        "layers_smaller",
        min(offered, key=lambda pct: abs(pct - 84)),
        st.select_slider,
    )
    formats = formats_for(one, smaller_pct)
    metrics(one, formats)
    shown = view.one_of(
        "Colour: what a layer loses in",
        list(one.conditions.formats),
        "layers_format",
        "int4",
        st.segmented_control,
        required=True,
    )
    draw(
        layer_charts.sensitivity_map(one, shown, formats),
        f"{one.model}: what each layer loses in {shown}, and its bits at −{smaller_pct:g} %",
        key="layer-map",
        alt=f"What each layer loses in {shown}, and the bits it gets for this size.",
    )
    st.caption("The number in a cell is the bits that the layer gets for the size chosen above.")
    about(one)
    st.header("What a size costs")
    chosen = Budget(smaller_pct, one.predicted_nats(formats))
    draw(
        layer_charts.size_loss_figure(one, budgets, chosen),
        f"{one.model}: loss by size",
        key="loss-by-size",
        alt="Predicted and measured loss by size.",
    )
    checks(one)
    st.markdown(f"Another model's layers: `{COMMAND.replace('base', '<model>')}`")


open_in_app("layers.py")
st.title("Layers")
st.markdown(
    "**How many bits does each layer need?** The study names mixed precision as future work."
    " Here every layer was quantized alone, in every format; the recipes `mixed-84`,"
    " `mixed-84-dynamic` and any `mixed-…` give each layer the bits that lose least for their"
    " size."
)
with View("layers") as page:
    main(page)
