"""The study's claims with their verdicts and evidence: a answer of the Study page."""

import pandas as pd
import streamlit as st

from pages._navigation import compare_url, utterances_url
from pages._utterance_view import audio_files, side_by_side
from pages._view import View
from whisperq_core.analyze import paired_comparisons
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.present import markup
from whisperq_core.study.claims import CLAIMS, ClaimResult, Finding, evaluate_claims
from whisperq_core.study.evidence import POINTS, Answer, Outcome
from whisperq_core.whisper.protocols import STUDY

LOOKS = {
    Outcome.REPRODUCED: ("green", ":material/check:"),
    Outcome.NOT_REPRODUCED: ("red", ":material/close:"),
    Outcome.INCONCLUSIVE: ("orange", ":material/help:"),
    Outcome.NOT_MEASURABLE: ("gray", ":material/block:"),
}
WORST = 4


def badge(verdict: str) -> str:
    colour, icon = LOOKS[verdict]
    return f":{colour}-badge[{icon} {verdict}]"


def claim_results(store: Store) -> list[ClaimResult]:
    runs = store.runs()
    return _claim_results(runs, tuple(run.key for run in runs))


@st.cache_resource(max_entries=4, show_spinner=False)
def _claim_results(_runs: list, keys: tuple[str, ...]) -> list[ClaimResult]:
    return evaluate_claims(_runs)


def claims(view: View, store: Store) -> None:
    """Every claim, its verdict, and the evidence it opens."""
    st.header("What our measurements say of its claims", anchor="claims")
    results = claim_results(store)
    counts = {verdict: sum(j.outcome == verdict for j in results) for verdict in LOOKS}
    st.markdown(
        f"{len(CLAIMS)} claims: "
        + " ".join(f"{badge(verdict)} {count}" for verdict, count in counts.items())
    )
    st.caption(
        "Verdicts are computed from the records, each at 95 %: *reproduced* and *not reproduced*"
        " are decided by intervals that resample speakers, *inconclusive* is everything else. About"
        " one in twenty may be chance. The study measured most claims on whisper-small;"
        " where that is not measured here, the verdict is that of the smaller models named beside"
        " it. `python -m whisperq_core claims` prints the same."
    )
    wanted = view.one_of(
        "Verdict",
        list(LOOKS),
        "verdict",
        widget=st.segmented_control,
        label_visibility="collapsed",
    )
    for result in results:
        if wanted in (None, result.outcome):
            claim(store, result)


def claim(store: Store, result: ClaimResult) -> None:
    on = ", ".join(result.rests_on) or result.why_not
    label = f"{badge(result.outcome)} {result.claim.wording} :gray[({on})]"
    box = st.expander(label, key=f"claim-{result.claim.id}", on_change="rerun")
    if box.open:
        with box:
            opened(store, result)


def opened(store: Store, result: ClaimResult) -> None:
    st.caption(f"In the study: {result.claim.place}.")
    if result.claim.note:
        st.caption(markup.escape_markdown(result.claim.note))
    for protocol in dict.fromkeys(finding.protocol for finding in result.findings):
        findings = [f for f in result.under(protocol) if f.outcome != Outcome.NOT_MEASURABLE]
        findings += [
            f
            for f in result.under(protocol)
            if f.outcome == Outcome.NOT_MEASURABLE and any(p.effect is not None for p in f.answers)
        ]
        if findings:
            heading = (
                "Protocol: as in the study" if protocol == STUDY.name else f"Protocol: {protocol}"
            )
            verdicts = ", ".join(f"{f.measured_on} {badge(f.outcome)}" for f in findings)
            st.markdown(f"**{heading}** · {verdicts}")
            st.table(answers_table(findings), border="horizontal", hide_index=True)
    if result.commands:
        needs = f" ({result.why_not})" if result.why_not else ""
        st.markdown(f"**Not measured here yet**{needs}. The verdict follows when this is run:")
        st.code("\n".join(result.commands), language="bash", wrap_lines=True)
    compared = [
        answer
        for finding in result.findings
        for answer in finding.answers
        if answer.unit == POINTS and len(answer.keys) == 2
    ]
    if compared:
        utterances(store, result.claim.id, compared)


def answers_table(findings: list[Finding]) -> pd.DataFrame:
    lines = [
        {
            "Question": markup.escape_markdown(answer.question),
            "Model": answer.model,
            "Measured": answer.shown,
            "Published": "–"
            if answer.published is None
            else f"{answer.published:+.2f}".lstrip("+"),
            "Verdict": badge(answer.outcome),
            "On": markup.escape_markdown(sample(answer)),
            "Records": " ".join(key[:6] for key in answer.keys[:4]),
        }
        for finding in findings
        for answer in finding.answers
    ]
    return pd.DataFrame(lines)


def sample(answer: Answer) -> str:
    if answer.minutes_needed is None:
        return answer.sample
    minutes = f"an estimated {answer.minutes_needed:.0f} min of audio in all"
    return f"{answer.sample}; {minutes} are needed for a conclusion"


def utterances(store: Store, claim_id: str, answers: list[Answer]) -> None:
    """The utterances that drive one of the comparisons."""
    names = {
        f"{p.model}: {p.question} ({p.sample.split(',')[0]}, {p.protocol})": p for p in answers
    }
    chosen = st.selectbox(
        "Down to the utterances",
        list(names),
        index=None,
        key=f"part-{claim_id}",
        placeholder="Choose a comparison",
    )
    if chosen is None:
        return
    runs = [store.get(key) for key in names[chosen].keys]
    if not all(isinstance(run, AccuracyRun) for run in runs):
        st.warning("One of its records is no longer there.")
        return
    links(runs)
    differing = paired_comparisons.differing(*runs)
    st.markdown(
        f"**{len(differing)} of {len(runs[0].utterances)} utterances have another number of"
        f" errors**; the {min(WORST, len(differing))} that differ most:"
    )
    st.html(markup.alignment_legend_html())
    audio = audio_files(runs[0])
    for pair in differing[:WORST]:
        side_by_side(tuple(runs), pair, audio.get(pair[0].id))


def links(runs: list[AccuracyRun]) -> None:
    names = [markup.escape_markdown(run.spec.recipe.name) for run in runs]
    urls = [utterances_url(run) for run in runs]
    st.markdown(
        "All utterances of "
        + " · ".join(f"[{name}]({url})" for name, url in zip(names, urls, strict=True))
        + f" · [Compare the two]({compare_url(*runs)})"
    )
