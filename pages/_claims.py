"""The study's claims with verdicts and evidence: the first part of the Study page."""

import re

import pandas as pd
import streamlit as st

from pages._code import draw_code
from pages._navigation import compare_url, utterances_url
from pages._utterance_view import audio_of, show_side_by_side
from pages._view import View
from whisperq_core.analyze import paired_comparisons
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.present import markup
from whisperq_core.present.labels import protocol_label
from whisperq_core.study.answers import POINTS, Answer, Outcome, commands, pool_lines
from whisperq_core.study.claims import CLAIMS
from whisperq_core.study.judge import ClaimResult, Finding, evaluate_claims

BADGES = {
    Outcome.REPRODUCED: ("green", ":material/check:"),
    Outcome.NOT_REPRODUCED: ("red", ":material/close:"),
    Outcome.INCONCLUSIVE: ("orange", ":material/help:"),
    Outcome.NOT_MEASURED: ("gray", ":material/hourglass_empty:"),
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
        "Verdicts are computed from the stored results under the Study protocol, at 95 %"
        " confidence. All sets of a split are pooled, with speakers as blocks. *Reproduced*: every"
        " statement of the claim is shown to hold. *Not reproduced*: one is shown to fail,"
        " corrected for how many could. *Inconclusive*: too close to call; the claim then says how"
        " much speech would settle it. *Not measurable here*: latency on a GPU. The study tested"
        " most claims on whisper-small. Until whisper-small is measured here, verdicts are for the"
        " model nearest in size, in parentheses. `python -m whisperq_core claims` prints the same"
        " verdicts."
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
    if any(result.undecided for result in results):
        show_open_statements(results)


def show_open_statements(results: list[ClaimResult]) -> None:
    """What the inconclusive claims need, in one table, and the commands that measure it."""
    box = st.expander(
        "What would settle the inconclusive claims", key="open-statements", on_change="rerun"
    )
    if not box.open:
        return
    lines = [
        {
            "Claim": markup.escape_markdown(result.claim.statement),
            "Open statement": markup.escape_markdown(answer.question),
            "Model": answer.model,
            "Measured": answer.shown,
            "Needs": answer.needs or "more than an estimate can say",
        }
        for result in results
        for answer in result.undecided
    ]
    with box:
        st.table(pd.DataFrame(lines), border="horizontal", hide_index=True)
        st.markdown("The next sets to measure, all claims together:")
        answers = [answer for result in results for answer in result.undecided]
        draw_code("\n".join(commands(answers)), "commands")


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
        show_findings(protocol, [f for f in result.under(protocol) if f.has_evidence])
    for answer in result.undecided:
        needs = f"; {answer.needs}" if answer.needs else ""
        line = f"{answer.model}: too close to call whether {answer.question}{needs}."
        st.markdown(f"- {markup.escape_markdown(line)}")
    if result.commands:
        requirements = f" ({result.requirements})" if result.requirements else ""
        st.markdown(f"**To measure what is missing**{requirements}:")
        draw_code("\n".join(result.commands), f"commands_{result.claim.id}")
    comparisons = [
        answer
        for finding in result.findings
        for answer in (*finding.answers, *finding.support)
        if answer.unit == POINTS and answer.pools
    ]
    if comparisons:
        show_utterances(store, result.claim.id, comparisons)


def show_findings(protocol: str, findings: list[Finding]) -> None:
    """The verdicts and answers of all models under one protocol; what decides comes first."""
    if not findings:
        return
    verdicts = ", ".join(f"{f.model_text} {badge(f.outcome)}" for f in findings)
    st.markdown(f"**Protocol: {protocol_label(protocol)}** · {verdicts}")
    answers = [answer for finding in findings for answer in finding.answers]
    st.table(answers_table(answers), border="horizontal", hide_index=True)
    support = [answer for finding in findings for answer in finding.support]
    if support:
        st.caption("Shown in support; the verdict does not depend on it:")
        st.table(answers_table(support), border="horizontal", hide_index=True)


def answers_table(answers: list[Answer]) -> pd.DataFrame:
    lines = [
        {
            "Statement": markup.escape_markdown(answer.question),
            "Model": answer.model,
            "Measured": answer.shown,
            "Published": published_text(answer),
            "Verdict": badge(answer.outcome),
            "Evaluated on": "  \n".join(map(markup.escape_markdown, sample(answer))),
            "Results": " ".join(key[:6] for key in answer.keys[:4]),
        }
        for answer in answers
    ]
    return pd.DataFrame(lines)


def published_text(answer: Answer) -> str:
    """The published value, with a sign where it is a difference, as in the measured one."""
    if answer.published is None:
        return "–"
    sign = "+" if answer.unit == POINTS else ""
    return f"{answer.published:{sign}.2f}".replace("-", "−")


def sample(answer: Answer) -> list[str]:
    """What was measured, and the parts of a pool; numbers stay with their units."""
    lines = [answer.sample, *(line for pool in answer.pools for line in pool_lines(pool))]
    return [re.sub(r"(\d) (\w)", "\\1\u00a0\\2", line) for line in lines]


def show_utterances(store: Store, claim_id: str, answers: list[Answer]) -> None:
    """The utterances in which the runs of a selected comparison differ most."""
    keys_of = {
        f"{a.model}: {a.question} ({part.eval_set}, {protocol_label(a.protocol)})": (
            part.baseline_key,
            part.key,
        )
        for a in answers
        for pool in a.pools
        for part in pool.parts
    }
    chosen = st.selectbox(
        "Per-utterance results",
        list(keys_of),
        index=None,
        key=f"part-{claim_id}",
        placeholder="Choose a comparison",
    )
    if chosen is None:
        return
    runs = [store.get(key) for key in keys_of[chosen]]
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
    audio = audio_of(runs[0])
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
