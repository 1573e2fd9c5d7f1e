"""`whisperq claims`: the study's claims against the stored results."""

from collections import Counter
from typing import Annotated

import typer

from whisperq_core.evaluate.store import Store
from whisperq_core.study import claims as study_claims
from whisperq_core.study.evidence import Outcome
from whisperq_core.whisper.protocols import protocol_label


def claims(
    verdict: Annotated[
        Outcome | None,
        typer.Option(help="Show only claims with this verdict."),
    ] = None,
) -> None:
    """Check the study's claims against the stored results."""
    results = study_claims.evaluate_claims(Store().runs())
    for result in results:
        if verdict in (None, result.outcome):
            _print_claim(result)
    counts = Counter(result.outcome for result in results)
    summary = ", ".join(f"{counts[name]} {name}" for name in Outcome)
    print(f"{summary} of {len(results)} claims")


def _print_claim(result: study_claims.ClaimResult) -> None:
    models = f" on {', '.join(result.evaluated_models)}" if result.evaluated_models else ""
    print(f"{result.claim.id}: {result.outcome.upper()}{models}")
    print(f"  {result.claim.statement} ({result.claim.source})")
    if result.claim.note:
        print(f"  Note: {result.claim.note}")
    for finding in result.findings:
        for answer in finding.answers:
            if answer.effect is not None:
                where = f"{answer.model}, {protocol_label(answer.protocol)}"
                print(f"    {where}: {answer.question}: {answer.shown} → {answer.outcome}")
                print(f"      {answer.sample}")
    if result.commands:
        why = f" ({result.requirements})" if result.requirements else ""
        print(f"    not measured{why}; to measure it, run:")
        for command in result.commands:
            print(f"      {command}")
    print()
