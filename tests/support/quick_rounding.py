"""Roundings without their search, for tests of what the search does not change."""

import pytest


def leave_out_search(patch: pytest.MonkeyPatch) -> None:
    """HQQ rounds with its first scales and zero points.

    The search for better ones takes most of its time; sizes, names and formats are the same.
    """
    patch.setattr(
        "hqq.core.quantize.Quantizer.optimize_weights",
        lambda tensor, scale, zero, **_: ((tensor * scale + zero).round(), scale, zero),
    )


def round_to_nearest(patch: pytest.MonkeyPatch) -> None:
    """Mixed weights are rounded to nearest: no column makes good what another one loses (GPTQ).

    That takes most of the time of a mixed recipe; sizes, names and formats are the same.
    """
    import torch

    from whisperq_core.quantize import gptq

    def quantize_weight(weight, moments, bits, group_size):
        top, columns = 2**bits - 1, weight.shape[1]
        groups = weight.detach().unflatten(-1, (-1, group_size))
        need = (groups.amax(-1).clamp(min=0) - groups.amin(-1).clamp(max=0)).amax(1) / top
        units = (need * gptq._HEADROOM / 255).clamp(min=2.0**-24).half()
        grids = [gptq._grid(groups[:, i], units, bits) for i in range(columns // group_size)]
        steps, zeros = (torch.stack(parts, dim=1) for parts in zip(*grids, strict=True))
        scale = (steps.float() * units.float()[:, None])[..., None]
        codes = (groups / scale + zeros.float()[..., None] * (2**bits / 256)).round()
        codes = codes.clamp(0, top).to(torch.uint8).flatten(-2)
        return gptq.GroupedWeight(bits, codes, steps, zeros, units)

    patch.setattr(gptq, "quantize_weight", quantize_weight)
