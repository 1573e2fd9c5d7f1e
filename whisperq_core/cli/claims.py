"""`whisperq claims`: the study's claims against the stored results."""

from collections import Counter
from typing import Annotated, Literal

import typer

from whisperq_core.evaluate.store import Store
from whisperq_core.study import claims as study_claims
from whisperq_core.study import evidence


def claims(
    verdict: Annotated[
        Literal["reproduced", "not reproduced", "inconclusive", "not measurable here"] | None,
        typer.Option(help="Only claims with this verdict."),
    ] = None,
) -> None:
    """Print the study's claims, and what the stored results say of each."""
    judgements = study_claims.evaluate_claims(Store().runs())
    for judgement in judgements:
        if verdict in (None, judgement.verdict):
            _print_claim(judgement)
    counts = Counter(judgement.verdict for judgement in judgements)
    summary = ", ".join(f"{counts[name]} {name}" for name in evidence.VERDICTS)
    print(f"{summary} of {len(judgements)} claims")


def _print_claim(judgement: study_claims.ClaimResult) -> None:
    models = f" on {', '.join(judgement.rests_on)}" if judgement.rests_on else ""
    print(f"{judgement.claim.id}: {judgement.verdict.upper()}{models}")
    print(f"  {judgement.claim.wording} ({judgement.claim.place})")
    for finding in judgement.findings:
        for part in finding.parts:
            if part.effect is not None:
                where = f"{part.model}, {part.protocol}"
                print(f"    {where}: {part.question}: {part.shown} → {part.verdict}")
                print(f"      {part.sample}")
    if judgement.commands:
        why = f" ({judgement.why_not})" if judgement.why_not else ""
        print(f"    not measured here{why}; run:")
        for command in judgement.commands:
            print(f"      {command}")
    print()
