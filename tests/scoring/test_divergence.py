import math

import pytest
import torch
from scipy.special import rel_entr

from whisperq_core.scoring import divergence
from whisperq_core.scoring.divergence import Divergence


def log_softmax(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).log_softmax(-1)


def test_equal_predictions_have_no_divergence():
    same = log_softmax([1.0, 2.0, 3.0], [0.0, 0.0, 9.0])
    assert divergence.nats_of_tokens(same, same).tolist() == [0.0, 0.0]
    assert divergence.changed_tokens(same, same).tolist() == [False, False]


def test_divergence_is_scipys_relative_entropy():
    fp32, other = log_softmax([1.0, 2.0, 3.0]), log_softmax([2.0, 2.0, 0.5])
    expected = rel_entr(fp32.double().exp().numpy(), other.double().exp().numpy()).sum()
    assert divergence.nats_of_tokens(fp32, other).item() == pytest.approx(expected, rel=1e-5)
    assert divergence.changed_tokens(fp32, other).tolist() == [True]


def test_a_sure_model_that_becomes_a_coin_flip_loses_log_2():
    fp32 = torch.tensor([[0.0, -100.0]])
    other = torch.tensor([[math.log(0.5), math.log(0.5)]])
    assert divergence.nats_of_tokens(fp32, other).item() == pytest.approx(math.log(2))


def test_rates_are_of_sums():
    both = divergence.total([Divergence(3, 0.3, 1), Divergence(1, 0.5, 1)])
    assert both == Divergence(4, 0.8, 2)
    assert (both.nats_per_token, both.changed_share) == (0.2, 0.5)
    nothing = divergence.total([])
    assert (nothing.nats_per_token, nothing.changed_share) == (0.0, 0.0)
