from tests.support.sample_runs import accuracy_run
from whisperq_core.cli.main import main

SPEAKERS = [str(i) for i in range(12)]
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett"
CLAIM = "fastest-costs-wer"


def run(recipe: str, wrong_words: int, eval_set: str, start: int):
    texts = [(WORDS, " ".join(["x"] * wrong_words + WORDS.split()[wrong_words:]))] * 12
    ids = [f"utterance-{start + i}" for i in range(12)]
    speakers = [f"{start}-{s}" for s in SPEAKERS]
    digest = {"eval_set_digest": f"{start:064x}"}
    return accuracy_run(recipe, texts, eval_set=eval_set, ids=ids, speakers=speakers, **digest)


def test_a_claim_is_printed_with_its_verdict_its_pool_and_the_parts(store, capsys):
    for name, wrong in (("fp32", 1), ("torch-int8", 3)):
        store.put(run(name, wrong, "test-other-25-speakers", 0))
        store.put(run(name, wrong, "librispeech-test-other", 100))
    assert main(["--cache", str(store.root), "claims", "--verdict", "reproduced"]) == 0
    printed = capsys.readouterr().out
    assert f"{CLAIM}: REPRODUCED on base" in printed
    assert "torch-int8 has a higher WER than fp32 on test-other: +20.00" in printed
    assert "2 sets, 24 speakers, 4.0 min" in printed
    for name in ("test-other-25-speakers", "librispeech-test-other"):
        assert f"{name}, 12 utterances, 12 speakers, 2.0 min: +20.00" in printed
    assert "gpu-slower" not in printed
    assert "To settle" not in printed
    assert printed.strip().endswith("of 21 claims") and "3 not measurable here" in printed


def test_only_claims_of_the_wanted_verdict_are_printed(store, capsys):
    arguments = ["--cache", str(store.root), "claims", "--verdict", "not measurable here"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "gpu-slower: NOT MEASURABLE HERE" in printed and CLAIM not in printed
    assert "needs whisper-small, whisper-base, whisper-tiny and a GPU" in printed


def test_what_would_settle_inconclusive_claims_is_said_once_for_all(store, capsys):
    for name in ("fp32", "quanto-int8"):
        store.put(run(name, 1, "test-other-25-speakers", 0))
    assert main(["--cache", str(store.root), "claims", "--verdict", "inconclusive"]) == 0
    printed = capsys.readouterr().out
    assert "quanto-int8-regularizes: INCONCLUSIVE on base" in printed
    assert "too close to call: base: quanto-int8 has a lower WER than fp32 on test-other" in printed
    end = printed[printed.index("To settle the inconclusive claims, run:") :]
    assert "run --models base --recipes fp32,quanto-int8 --sets test-other" in end
