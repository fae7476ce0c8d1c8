"""What each cell of a P frame shows, as an encoder finds it: nn.hypotheses says what there is, entropy.choices what a choice costs."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.entropy.choices import ChoiceStatistics, choice_costs
from neuralcodec.nn.hypotheses import Ways, all_predictions, in_cells
from neuralcodec.nn.layout import ALIGN

WORTH = 1.5
"""Beside what a squared step is worth where a residual is rounded (coding.LAMBDAS): what predicts better is corrected in fewer bits, and is seen in frames that follow."""
ROUNDS = 3
_GRID = 64
"""Parts of a bit, so that choices hardly depend on the order of sums."""


@torch.no_grad()
def choose_predictions(y: Tensor, uv: Tensor, ways: Ways, worth: float | Tensor, before: np.ndarray | None,
                       statistics: ChoiceStatistics) -> tuple[np.ndarray, tuple[Tensor, Tensor]]:
    """Choices uint8 (h, w) for source planes y (1, 1, H, W), uv (1, 2, H/2, W/2), by squared error and bits; and the planes that are predicted by them.

    ``worth``: bits for a squared sample, the same everywhere or (1, 1, h, w). ``before`` and ``statistics`` as in entropy.choices."""
    predictions = all_predictions(ways)
    errors = torch.stack([_cell_errors(y - p, uv - q) for p, q in predictions], -1)  # (1, 1, h, w, K)
    bits = errors * (WORTH * torch.as_tensor(worth, device=errors.device))[..., None]
    price = np.round(bits[0, 0].double().cpu().numpy() * _GRID) / _GRID
    choices = price.argmin(-1).astype(np.uint8)
    for _ in range(ROUNDS):
        choices = (price + choice_costs(choices, before, statistics)).argmin(-1).astype(np.uint8)
    spent = np.take_along_axis(price + choice_costs(choices, before, statistics), choices[..., None].astype(np.int64), -1).sum()
    if spent >= price[..., 0].sum():
        choices = np.zeros_like(choices)
    return choices, in_cells(predictions, torch.from_numpy(choices).to(y.device))


def _cell_errors(y: Tensor, uv: Tensor) -> Tensor:
    """Squared errors of each cell, weighted as the distortion of planes (6 Y + U + V) / 8 is: (B, 1, h, w)."""
    luma = F.avg_pool2d(y.square(), ALIGN) * ALIGN**2
    chroma = F.avg_pool2d(uv.square().sum(1, keepdim=True), ALIGN // 2) * ALIGN**2  # four times the sum: there are a quarter as many
    return (6 * luma + chroma) / 8
