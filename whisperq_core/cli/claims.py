"""`whisperq claims`: the study's claims against the stored results."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import typer

from whisperq_core.evaluate.store import Store
from whisperq_core.study import judge
from whisperq_core.study.answers import Answer, Outcome, commands, pool_lines
from whisperq_core.whisper.protocols import protocol_label


def claims(
    verdict: Annotated[
        Outcome | None,
        typer.Option(help="Show only claims with this verdict."),
    ] = None,
) -> None:
    """Check the study's claims against the stored results."""
    results = judge.evaluate_claims(Store().runs())
    for result in results:
        if verdict in (None, result.outcome):
            _print_claim(result)
    open_answers = [answer for result in results for answer in result.undecided]
    if open_answers:
        print("To settle the inconclusive claims, run:")
        print("\n".join(f"  {command}" for command in commands(open_answers)) + "\n")
    counts = Counter(result.outcome for result in results)
    summary = ", ".join(f"{counts[name]} {name}" for name in Outcome)
    print(f"{summary} of {len(results)} claims")


def _print_claim(result: judge.ClaimResult) -> None:
    models = f" on {', '.join(result.evaluated_models)}" if result.evaluated_models else ""
    print(f"{result.claim.id}: {result.outcome.upper()}{models}")
    print(f"  {result.claim.statement} ({result.claim.source})")
    if result.claim.note:
        print(f"  Note: {result.claim.note}")
    for finding in result.findings:
        _print_answers("", finding.answers)
        _print_answers("support: ", finding.support)
    for answer in result.undecided:
        needs = f": {answer.needs}" if answer.needs else ""
        print(f"    too close to call: {answer.model}: {answer.question}{needs}")
    if result.commands:
        requirements = f" ({result.requirements})" if result.requirements else ""
        print(f"    to measure what is missing{requirements}, run:")
        for command in result.commands:
            print(f"      {command}")
    print()


def _print_answers(kind: str, answers: Iterable[Answer]) -> None:
    for answer in answers:
        if answer.is_measured:
            where = f"{answer.model}, {protocol_label(answer.protocol)}"
            print(f"    {kind}{where}: {answer.question}: {answer.shown} → {answer.outcome}")
            print(f"      {answer.sample}")
            for line in (line for pool in answer.pools for line in pool_lines(pool)):
                print(f"        {line}")
