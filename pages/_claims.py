"""The study's claims with verdicts and evidence: the first part of the Study page."""

import re

import pandas as pd
import streamlit as st

from pages._navigation import compare_url, utterances_url
from pages._utterance_view import audio_files, show_side_by_side
from pages._view import View
from whisperq_core.analyze import paired_comparisons
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.present import markup
from whisperq_core.present.labels import protocol_label
from whisperq_core.study.claims import CLAIMS, ClaimResult, Finding, evaluate_claims
from whisperq_core.study.evidence import POINTS, Answer, Outcome

BADGES = {
    Outcome.REPRODUCED: ("green", ":material/check:"),
    Outcome.NOT_REPRODUCED: ("red", ":material/close:"),
    Outcome.INCONCLUSIVE: ("orange", ":material/help:"),
    Outcome.NOT_MEASURABLE: ("gray", ":material/block:"),
}
# How many utterances of a comparison are shown: those that differ most.
MOST_UTTERANCES = 4


def badge(verdict: str) -> str:
    colour, icon = BADGES[verdict]
    return f":{colour}-badge[{icon} {verdict}]"


def claim_results(store: Store) -> list[ClaimResult]:
    runs = store.runs()
    return _claim_results(runs, tuple(run.key for run in runs))


@st.cache_resource(max_entries=4, show_spinner=False)
def _claim_results(_runs: list, keys: tuple[str, ...]) -> list[ClaimResult]:
    return evaluate_claims(_runs)


def show_claims(view: View, store: Store) -> None:
    """Every claim with its verdict; its evidence is in an expander."""
    st.header("Claims and verdicts", anchor="claims")
    results = claim_results(store)
    counts = {verdict: sum(r.outcome == verdict for r in results) for verdict in BADGES}
    st.markdown(
        f"{len(CLAIMS)} claims: "
        + " ".join(f"{badge(verdict)} {count}" for verdict, count in counts.items())
    )
    st.caption(
        "Verdicts are computed from the stored results at 95 % confidence. *Reproduced* and *not"
        " reproduced* are conclusive: for WER, by the interval over speakers; for latency, by the"
        " interval over repeated passes. Sizes are exact. *Inconclusive*: too close to call."
        " Verdicts are not corrected for multiple comparisons: about one in twenty may be due to"
        " chance. The study tested most claims on whisper-small. Until whisper-small is measured"
        " here, verdicts are for the smaller models in parentheses. `python -m whisperq_core"
        " claims` prints the same verdicts."
    )
    selected = view.one_of(
        "Verdict",
        list(BADGES),
        "verdict",
        widget=st.segmented_control,
        label_visibility="collapsed",
    )
    for result in results:
        if selected in (None, result.outcome):
            show_claim(store, result)


def show_claim(store: Store, result: ClaimResult) -> None:
    models = ", ".join(result.evaluated_models) or result.requirements
    label = f"{badge(result.outcome)} {result.claim.statement} :gray[({models})]"
    box = st.expander(label, key=f"claim-{result.claim.id}", on_change="rerun")
    if box.open:
        with box:
            show_evidence(store, result)


def show_evidence(store: Store, result: ClaimResult) -> None:
    st.caption(f"Source in the study: {result.claim.source}.")
    if result.claim.note:
        st.caption(markup.escape_markdown(result.claim.note))
    for protocol in dict.fromkeys(finding.protocol for finding in result.findings):
        findings = [f for f in result.under(protocol) if f.outcome != Outcome.NOT_MEASURABLE]
        findings += [
            f
            for f in result.under(protocol)
            if f.outcome == Outcome.NOT_MEASURABLE and any(a.effect is not None for a in f.answers)
        ]
        if findings:
            verdicts = ", ".join(f"{f.model_text} {badge(f.outcome)}" for f in findings)
            st.markdown(f"**Protocol: {protocol_label(protocol)}** · {verdicts}")
            st.table(answers_table(findings), border="horizontal", hide_index=True)
    if result.commands:
        requirements = f" ({result.requirements})" if result.requirements else ""
        st.markdown(f"**Not measured here yet**{requirements}. To measure it:")
        st.code("\n".join(result.commands), language=None, wrap_lines=True)
    comparisons = [
        answer
        for finding in result.findings
        for answer in finding.answers
        if answer.unit == POINTS and len(answer.keys) == 2
    ]
    if comparisons:
        show_utterances(store, result.claim.id, comparisons)


def answers_table(findings: list[Finding]) -> pd.DataFrame:
    lines = [
        {
            "Statement": markup.escape_markdown(answer.question),
            "Model": answer.model,
            "Measured": answer.shown,
            "Published": published_text(answer),
            "Verdict": badge(answer.outcome),
            "Evaluated on": markup.escape_markdown(sample(answer)),
            "Results": " ".join(key[:6] for key in answer.keys[:4]),
        }
        for finding in findings
        for answer in finding.answers
    ]
    return pd.DataFrame(lines)


def published_text(answer: Answer) -> str:
    """The published value, with a sign where it is a difference, as in the measured one."""
    if answer.published is None:
        return "–"
    sign = "+" if answer.unit == POINTS else ""
    return f"{answer.published:{sign}.2f}".replace("-", "−")


def sample(answer: Answer) -> str:
    """What was measured, and how much audio a conclusion needs; numbers stay with their units."""
    text = answer.sample
    if answer.minutes_needed is not None:
        text += f"; a conclusion needs an estimated {answer.minutes_needed:.0f} min in total"
    return re.sub(r"(\d) (\w)", "\\1\u00a0\\2", text)


def show_utterances(store: Store, claim_id: str, answers: list[Answer]) -> None:
    """The utterances in which the runs of a selected comparison differ most."""
    by_label = {
        f"{a.model}: {a.question} ({a.sample.split(',')[0]}, {protocol_label(a.protocol)})": a
        for a in answers
    }
    chosen = st.selectbox(
        "Per-utterance results",
        list(by_label),
        index=None,
        key=f"part-{claim_id}",
        placeholder="Choose a comparison",
    )
    if chosen is None:
        return
    runs = [store.get(key) for key in by_label[chosen].keys]
    if not all(isinstance(run, AccuracyRun) for run in runs):
        st.warning("A result of this comparison no longer exists.")
        return
    show_links(runs)
    differing = paired_comparisons.differing(*runs)
    shown = differing[:MOST_UTTERANCES]
    st.markdown(
        f"**The number of errors differs in {len(differing)} of {len(runs[0].utterances)}"
        f" utterances**; the {len(shown)} largest differences:"
    )
    st.html(markup.alignment_legend_html())
    audio = audio_files(runs[0])
    for pair in shown:
        show_side_by_side(tuple(runs), pair, audio.get(pair[0].id))


def show_links(runs: list[AccuracyRun]) -> None:
    names = [markup.escape_markdown(run.spec.recipe.name) for run in runs]
    urls = [utterances_url(run) for run in runs]
    st.markdown(
        "All utterances: "
        + " · ".join(f"[{name}]({url})" for name, url in zip(names, urls, strict=True))
        + f" · [Compare the two runs]({compare_url(*runs)})"
    )
