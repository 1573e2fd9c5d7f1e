"""Divergence from fp32: recipes ranked by it, and what it says of WER."""

import math

import pandas as pd
import streamlit as st

from pages._code import draw_code
from pages._figures import draw
from pages._navigation import open_in_app
from pages._session import all_runs, user_store
from pages._tables import draw_table
from pages._view import View
from whisperq_core.analyze import divergence_calibration
from whisperq_core.analyze.divergence_calibration import Calibration, Point
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.evaluate.records import DivergenceRun
from whisperq_core.plurals import counted
from whisperq_core.present import divergence_charts, glossary

COMMAND = (
    "python -m whisperq_core run --models base --recipes bf16,bnb-nf4 --sets quick-look"
    " --only divergence"
)


@st.cache_resource(max_entries=2, show_spinner=False)
def calibration_of(state: tuple, _runs: list) -> Calibration | None:
    return divergence_calibration.calibrate(_runs)


def show_ranking(view: View, points: list[Point]) -> None:
    sets = list(dict.fromkeys((p.model, p.eval_set) for p in points))
    counts = {one: sum((p.model, p.eval_set) == one for p in points) for one in sets}
    names = {f"{model} · {eval_set}": (model, eval_set) for model, eval_set in sets}
    # Of equals, test-other before test-clean.
    most = max(names, key=lambda name: (counts[names[name]], name))
    chosen = view.one_of("Model and evaluation set", list(names), "divergence_set", most, width=340)
    shown = [p for p in points if (p.model, p.eval_set) == names[chosen]]
    draw(
        divergence_charts.ranking_figure(shown),
        f"Divergence from fp32, {chosen}",
        key="ranking",
        alt="Divergence of each recipe with its 95 % interval; the table below has the values.",
    )
    st.caption(
        "Bars: 95 % intervals, bootstrap over speakers. Two recipes differ where their intervals do"
        " not overlap."
    )


def show_calibration(calibration: Calibration, margin: float) -> None:
    fit, points = calibration.fit, calibration.points
    threshold = fit.excluded_below(margin)
    st.header("How divergence relates to WER")
    if math.isfinite(threshold):
        st.markdown(
            f"**Below {threshold:.0f} mnat per token, a WER increase of more than {margin:g}"
            f" points is unlikely**: fitted to {fit.recipes} recipes, the 95 % prediction"
            f" interval for another recipe stays below {margin:g} points. On average, WER rises"
            f" by {fit.slope * 100:.2f} points per 100 mnat."
        )
    draw(
        divergence_charts.calibration_figure(calibration, margin),
        "WER difference by divergence",
        key="calibration",
        alt="WER difference from fp32 by divergence; the table below has the values.",
    )
    st.caption(
        "Each point: one recipe on one evaluation set; bars: standard errors. Cross-validation:"
        f" {100 * calibration.covered:.0f} % of {len(points)} WER differences lie within the 95 %"
        " interval predicted from the other recipes. Rank correlation (Spearman):"
        f" {calibration.rank_correlation:.2f}."
    )
    st.markdown(
        "**Limitation: loops.** Divergence is measured on fp32's transcript, so it cannot show"
        " that a recipe starts to repeat itself when it decodes its own output. Utterances in"
        " which either model looped are excluded from these WER differences; the table counts"
        " them."
    )
    table = pd.DataFrame(
        [
            {
                "Model": point.model,
                "Recipe": point.recipe,
                "Evaluation set": point.eval_set,
                "Divergence (mnat per token)": point.mnat.value,
                "95 % interval": f"{point.mnat.low:.2f} to {point.mnat.high:.2f}",
                "WER difference (points)": point.difference.value,
                "Predicted, low": predicted.low,
                "Predicted, high": predicted.high,
                "Utterances with a loop": point.loops,
            }
            for point, predicted in calibration.held_out
        ]
    )
    if table["Model"].nunique() == 1:
        table = table.drop(columns="Model")
    draw_table(
        table,
        column_config={
            "Divergence (mnat per token)": st.column_config.NumberColumn(format="%.2f"),
            "WER difference (points)": st.column_config.NumberColumn(format="%+.2f"),
            **{
                name: st.column_config.NumberColumn(
                    format="%+.2f", help="95 % interval predicted from the other recipes."
                )
                for name in ("Predicted, low", "Predicted, high")
            },
        },
    )


def main(view: View) -> None:
    runs = all_runs()
    calibration = calibration_of(user_store().state, runs)
    if calibration is None:
        measured = [run for run in runs if isinstance(run, DivergenceRun)]
        st.info(
            f"{counted(len(measured), 'divergence result')} so far. This page needs at least"
            f" {divergence_calibration.FEWEST_RECIPES} recipes on one evaluation set, with their"
            " WER under the protocol “Fitted window”."
        )
        draw_code(COMMAND, "command")
        return
    show_ranking(view, list(calibration.points))
    margin = view.number(
        "Margin (points of WER)",
        *(0.1, 5.0, MARGIN, 0.1),
        "divergence_margin",
        width=200,
        help=glossary.definition("margin"),
    )
    show_calibration(calibration, margin)
    st.markdown("To measure more recipes:")
    draw_code(COMMAND, "command")


open_in_app("divergence.py")
st.title("Divergence")
st.markdown(
    "**Which recipes damage the model, and how much?** WER changes only when a word does."
    " Divergence shows smaller damage and needs no reference. Both models are given fp32's"
    " transcript, and their predictions of each next token are compared: the mean Kullback-Leibler"
    " divergence, in thousandths of a nat (mnat) per token. 0 is no change."
)
with View("divergence") as page:
    main(page)
