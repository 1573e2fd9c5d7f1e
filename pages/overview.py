"""Overview, the page that opens first: which Whisper to run here, and what it costs."""

from collections.abc import Iterator, Sequence

import pandas as pd
import streamlit as st

from pages._code import draw_code
from pages._figures import draw
from pages._navigation import (
    fp32_comparison_url,
    open_in_app,
    open_point,
    speed_url,
    utterances_url,
)
from pages._session import all_configurations, all_runs, user_store
from pages._tables import draw_table
from pages._view import View
from whisperq_core.analyze import advisor, evidence_table
from whisperq_core.analyze.advisor import Advice
from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.user_requirements import PRIORITIES, Priority, Requirements
from whisperq_core.analyze.verdict_text import audio_needed
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.machine import this_machine
from whisperq_core.plurals import capitalized
from whisperq_core.present import advisor_text, glossary, markup, overview_chart
from whisperq_core.present.labels import protocol_label
from whisperq_core.study import published
from whisperq_core.whisper.protocols import STUDY

CONFIDENCES = (80, 90, 95, 99)
# The study's choice for speed, which it measured on a CPU.
STUDYS_RECIPE = published.TABLE_4[0].recipe
NEXT = (
    "**Next:** [try it on your recordings](./recordings) · [set limits](./advisor) on size, memory"
    " and time · [see all results](./tradeoffs) · [share as slides](./presentation) or as"
    " [one file](./report)"
)
MOST_ACCURATE = "Most accurate: the lowest upper end of the interval of the change in WER."
BETTER = {"smallest": "Smaller", "fastest": "Faster", "most accurate": "More accurate"}


def link(text: str, url: str) -> str:
    return f"[{markup.escape_markdown(text)}]({url})"


def proposed(advice: Advice) -> Configuration | None:
    return advice.proposed.configuration if advice.proposed else None


def usable(advice: Advice) -> Configuration | None:
    """What the code is for: the proposed one, or what this machine can run in its place."""
    if advice.usable is None or advice.usable is advice.named:
        return proposed(advice)
    return advice.usable.configuration


def is_shown(advice: Advice) -> bool:
    """Whether the proposed one is shown to meet the requirements, not only estimated to."""
    return advice.best is not None and advice.proposed is advice.best


def with_evidence(text: str, configuration: Configuration) -> str:
    """The text as Markdown, in which the configuration's numbers link to where they come from."""
    latency = configuration.latency
    numbers = {
        advisor_text.size_words(configuration): utterances_url(configuration.run),
        advisor_text.wer_words(configuration): fp32_comparison_url(configuration),
        advisor_text.speed_words(latency.value) if latency else "": speed_url(configuration),
    }
    text = markup.escape_markdown(text)
    for words, url in numbers.items():
        if words:
            text = text.replace(markup.escape_markdown(words), link(words, url), 1)
    return text


def choose_model(view: View, configurations: list[Configuration]) -> str:
    models = sorted({configuration.model for configuration in configurations})
    first = advisor.default_requirements(configurations).models[0]
    return view.one_of("Model", models, "overview_model", first, width=118)


def show_answer(advice: Advice) -> None:
    """The recommendation as a sentence with its evidence, and what would settle an open one."""
    configuration = proposed(advice)
    st.header(markup.escape_markdown(advisor_text.headline(advice)), anchor=False)
    text = advisor_text.explanation(advice)
    if configuration is None:
        st.markdown(markup.escape_markdown(text))
        return
    st.markdown(with_evidence(text, configuration))
    if here := advisor_text.on_this_machine(advice):
        st.warning(markup.escape_markdown(here))
    if not is_shown(advice) and advice.next_measurement:
        reason = advisor_text.next_measurement(
            advice.next_measurement, advice.requirements.priority
        )
        st.caption(markup.escape_markdown(f"Measure next: {reason}"))


def show_use(configuration: Configuration, reference: Configuration | None) -> None:
    """The code that uses it, where its speed was measured, and how to measure it here."""
    if not configuration.is_reference:
        draw_code(advisor_text.snippet(configuration), "python")
        draw_code(advisor_text.command_line(configuration), "command")
    show_machine(configuration, reference)


def show_machine(configuration: Configuration, reference: Configuration | None) -> None:
    """Where speed was measured, and how to measure it on this machine."""
    kinds = machines_of(configuration)
    kind = this_machine().kind_for(configuration.run.spec.device)
    here = advisor_text.short_machine(kind)
    others = " and on ".join(advisor_text.short_machine(one) for one in kinds if one != kind)
    how = "Measure on this machine, about a minute each"
    if not kinds:
        where = "Speed was not measured yet."
    elif kind not in kinds:
        where = (
            f"Speed depends on the machine. It was measured on {others}, not on this one ({here})."
        )
    else:
        and_others = f", and on {others}" if others else ""
        where = f"Speed was measured on this machine ({here}){and_others}."
        how = "Measure again"
    name = f"{configuration.recipe}, {protocol_label(configuration.protocol.name)}"
    how += f": {link(name, speed_url(configuration))}"
    if reference and configuration.protocol.name != reference.protocol.name:
        # Its own run times fp32 under its protocol only.
        how += f" and {link('fp32, ' + protocol_label(STUDY.name), speed_url(reference))}"
    # No caption: its links would be too faint.
    st.markdown(f":small[{markup.escape_markdown(where)} {how}.]")


def machines_of(configuration: Configuration) -> list[str]:
    """The kinds of machine that its relative latency was measured on, the one shown first."""
    if configuration.latency is None:
        return []
    runs = {run.key: run for run in all_runs()}
    timed = next((runs[key] for key in configuration.speed_keys if key in runs), configuration.run)
    return [timed.machine_kind, *(kind for kind, _ in configuration.latency_elsewhere)]


def is_studys_choice(configuration: Configuration) -> bool:
    return (configuration.recipe, configuration.protocol.name) == (STUDYS_RECIPE, STUDY.name)


def show_card(
    title: str, configuration: Configuration | None, note: str = "", help: str | None = None
) -> None:
    """One answer: size, speed, change in WER, and how sure that is."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.caption(title, help=help)
        if configuration is None:
            st.markdown("Not measured yet.")
            return
        st.markdown(f"**{markup.escape_markdown(configuration.recipe)}**")
        st.caption(markup.escape_markdown(protocol_label(configuration.protocol.name)))
        latency = configuration.latency
        speed = advisor_text.speed_words(latency.value) if latency else "speed not measured"
        url = speed_url(configuration)
        size = link(f"{configuration.megabytes} MB", utterances_url(configuration.run))
        lines = [size if configuration.is_reference else f"{size}, {link(speed, url)}"]
        if comparison := configuration.comparison:
            change = f"{comparison.rate_name} {advisor_text.increase_text(configuration)}"
            lines.append(link(change, fp32_comparison_url(configuration)))
        else:
            rate = f"WER {configuration.rate_pct:.2f} %"
            lines.append(link(rate, utterances_url(configuration.run)))
        lines.append(markup.escape_markdown(capitalized(advisor_text.certainty(configuration))))
        st.markdown("  \n".join(lines))
        if note:
            st.caption(markup.escape_markdown(note))


def note_of(advice: Advice) -> str:
    """What is preferred at a lower confidence, or what would settle an answer that is not shown."""
    confidence = f"{100 * advice.requirements.confidence:.3g} %"
    if is_shown(advice):
        if advice.probable is None:
            return ""
        other = advice.probable.configuration
        sure = advisor_text.confidence_pct(other)
        better = BETTER[advice.requirements.priority]
        return f"{better}, {sure} % sure: {other.recipe}, {advisor_text.figures(other)}."
    measurement = advice.next_measurement
    minutes = measurement.check.more_minutes if measurement and measurement.check else None
    needed = f": {audio_needed(minutes)}" if minutes is not None else ""
    return f"Not shown with {confidence}{needed}."


@st.cache_resource(max_entries=16, show_spinner=False)
def answers_for(
    state: tuple,
    margin: float,
    confidence: float,
    model: str,
    _requirements: Requirements,
    _configurations: list[Configuration],
) -> dict[Priority, Advice]:
    """`advisor.answers`, computed once for all visits until a result is added."""
    return advisor.answers(_requirements, _configurations)


def show_cards(
    advice: Advice,
    answers: dict[Priority, Advice],
    study: Configuration | None,
    reference: Configuration | None,
) -> None:
    """The answer for each priority, one card where they are the same, and what to compare with."""
    cards: list[tuple] = []
    best = {priority: proposed(advice) for priority, advice in answers.items()}
    for configuration in dict.fromkeys(best.values()):
        alike = [priority for priority in answers if best[priority] is configuration]
        notes = filter(None, (note_of(answers[priority]) for priority in alike))
        help = MOST_ACCURATE if "most accurate" in alike else None
        cards.append((in_words(alike), configuration, next(notes, ""), help))
    second = advice.second
    if len(cards) < len(answers) and second and second.configuration not in best.values():
        cards.append(("Second choice", second.configuration))
    cards.append(("As in the study", study))
    if len(cards) <= len(answers) and reference:
        cards.append(("Without quantization", reference))
    for column, card in zip(st.columns(len(cards)), cards, strict=True):
        with column:
            show_card(*card)


def in_words(priorities: Sequence[str]) -> str:
    """As in “Smallest and fastest”."""
    if len(priorities) == len(PRIORITIES):
        return "Best in size, speed and WER"
    return capitalized(" and ".join(priorities))


def show_plot(
    advice: Advice, configurations: Sequence[Configuration], study: Configuration | None
) -> None:
    roles = {r.configuration.run.key: overview_chart.REFERENCE for r in advice.references}
    if study is not None:
        roles[study.run.key] = overview_chart.IN_THE_STUDY
    best = proposed(advice)
    if best is not None and not best.is_reference:
        roles[best.run.key] = overview_chart.RECOMMENDED
    shown = overview_chart.drawable(configurations)
    margin = advice.requirements.max_wer_rise_points
    event = draw(
        overview_chart.overview_figure(shown.configurations, roles, margin),
        "Speed and change in WER of every configuration",
        key="overview",
        on_select="rerun",
        selection_mode="points",
        alt="How many times as fast as fp32 each configuration is, against its change in WER;"
        " the table below has the same numbers.",
    )
    open_point(event)
    notes = [f"Area: size. Shaded: WER rises by less than {margin:g} points. Green: Pareto front."]
    notes += list(not_drawn(shown))
    # No caption: its links would be too faint.
    st.markdown(f":small[{' '.join(notes)}]")


def not_drawn(shown: overview_chart.Shown) -> Iterator[str]:
    """What the plot leaves off, and how to measure what was not, as Markdown."""
    if shown.broken:
        limit = f"{overview_chart.BROKEN_POINTS:g} points"
        yield f"Not drawn: {shown.broken} with a WER increase above {limit}."
    if shown.not_compared:
        yield f"Not drawn: {shown.not_compared} that fp32 was not evaluated next to."
    if shown.untimed:
        alike: dict[tuple[str, str], list[Configuration]] = {}
        for one in shown.untimed:
            alike.setdefault((one.protocol.name, one.run.spec.device), []).append(one)
        links = ", ".join(
            link(f"{protocol_label(protocol)} ({len(own)})", speed_url(*own))
            for (protocol, _), own in alike.items()
        )
        have = f"{len(shown.untimed)} that {'has' if len(shown.untimed) == 1 else 'have'}"
        yield f"Not drawn: {have} no measured speed yet. Time them: {links}."


def show_table(frame: pd.DataFrame) -> None:
    st.header("All configurations", anchor="all")
    table = pd.DataFrame(
        {
            "Recipe": frame["recipe"],
            "Protocol": frame["protocol"].map(protocol_label),
            "Size (MB)": frame["weights_bytes"].astype(float) / 1e6,
            "Relative latency (× fp32)": frame["latency"],
            "WER (%)": frame["wer_pct"],
            "fp32's WER (%)": frame["reference_wer_pct"],
            "WER difference (points)": frame["difference"],
            "Low": frame["low"],
            "High": frame["high"],
            "Verdict": frame["verdict"],
            "Confidence (%)": frame["within_margin_pct"],
            "Divergence (mnat per token)": frame["divergence_mnat"],
            "Minutes": frame["minutes"],
            "Evaluation sets": frame["sets"],
            "Sets differ (p)": frame["sets_differ_p"].astype(float),
        }
    )
    number = st.column_config.NumberColumn
    draw_table(
        table,
        column_config={
            "Size (MB)": number(format="%.0f"),
            "Relative latency (× fp32)": number(format="%.2f"),
            **{
                name: number(format="%+.2f", help="95 %, simultaneous over all recipes.")
                for name in ("Low", "High")
            },
            **{
                name: number(
                    format="%.2f", help="Over the sets that the row names: compare within a row."
                )
                for name in ("WER (%)", "fp32's WER (%)")
            },
            "WER difference (points)": number(format="%+.2f"),
            "Confidence (%)": number(
                format="%.1f",
                help=(
                    "That the WER increase is below the margin; not corrected for multiple"
                    " comparisons."
                ),
            ),
            "Divergence (mnat per token)": number(
                format="%.1f", help=glossary.definition("divergence")
            ),
            "Minutes": number(format="%.0f"),
            "Sets differ (p)": number(
                format="%.2f",
                help=(
                    "p-value of the hypothesis that the difference is the same in all sets. If it"
                    " is small, the sets differ, and the pooled difference is only their average."
                ),
            ),
        },
    )
    st.caption(
        "Errors and words of all English sets that a configuration and fp32 were both evaluated"
        " on; speakers are resampled as blocks, within each set. Of sets"
        " that share recordings, only the larger one is used."
    )


def main(view: View) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.title("Which Whisper should I run here?", width="stretch")
        margin = view.number(
            "Margin (points)",
            *(0.1, 5.0, MARGIN, 0.1),
            "overview_margin",
            width=118,
            help=glossary.definition("margin"),
        )
        confidence = view.one_of(
            "Confidence (%)", list(CONFIDENCES), "overview_confidence", 95, width=118
        )
        configurations = all_configurations(margin)
        if any(configuration.pool for configuration in configurations):
            model = choose_model(view, configurations)
    show_unreadable()
    if not any(configuration.pool for configuration in configurations):
        st.info("No recipe has been evaluated together with fp32 yet. Open **Run evaluations**.")
        return
    requirements = advisor.default_requirements(
        configurations, max_wer_rise_points=margin, confidence=confidence / 100, models=(model,)
    )
    own = [configuration for configuration in configurations if configuration.model == model]
    answers = answers_for(user_store().state, margin, confidence, model, requirements, own)
    advice = answers[requirements.priority]
    study = next((c for c in own if is_studys_choice(c)), None)
    reference = next((c for c in own if c.is_reference), None)
    show_answer(advice)
    left, right = st.columns([5, 6], gap="medium")
    with left:
        if configuration := usable(advice):
            show_use(configuration, reference)
    with right:
        show_plot(advice, own, study)
    show_cards(advice, answers, study, reference)
    st.markdown(NEXT)
    show_table(evidence_table.evidence(own))


def show_unreadable() -> None:
    if names := ", ".join(user_store().unreadable):
        st.warning(f"Results that cannot be read are not shown: {markup.escape_markdown(names)}.")


open_in_app("overview.py")
with View("overview") as page:
    main(page)
