"""Runs of many speakers with chosen numbers of errors, whose verdicts are known."""

from tests.support.sample_runs import accuracy_run
from whisperq_core.scoring import error_rates

TEXT = "a cat sat down by our door and looked in at all the old men who were there now again"


def run_with(recipe: str, wrong: list[int], **how):
    """A run of one utterance of 20 words a speaker, the first of them missed as `wrong` says."""
    words = TEXT.split()
    texts = [(TEXT, " ".join(words[count:])) for count in wrong]
    return accuracy_run(recipe, texts, speakers=[str(i) for i in range(len(wrong))], **how)


def in_language(one, language: str, only_first: int | None = None):
    """The run with its first utterances, or all, in another language."""
    utterances = [
        u.model_copy(
            update={
                "language": language,
                "score": error_rates.score(u.reference, u.hypothesis, language),
            }
        )
        for u in one.utterances[:only_first]
    ]
    rest = one.utterances[len(utterances) :]
    return one.model_copy(update={"utterances": (*utterances, *rest)})


# Errors of twenty speakers: about 10 % WER; as many, differing by chance; three times as many.
SOME = [1, 2, 3, 2, 1, 3, 2, 2, 1, 3] * 2
ALIKE = [2, 1, 3, 2, 2, 3, 1, 2, 2, 2] * 2
NOISY = [0, 5, 2, 6, 0, 0, 7, 1, 0, 0] * 2
MANY = [6, 7, 6, 8, 6, 7, 6, 6, 5, 6] * 2
NONE = [0] * 20
