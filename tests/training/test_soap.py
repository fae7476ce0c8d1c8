"""The optimiser SOAP: Adam where there is no matrix, the eigenbasis of the gradients where there is one."""

from __future__ import annotations

import pytest
import torch

from neuralcodec.training.soap import EVERY, LARGEST_SIDE, SOAP


def descend(optimiser: type, steps: int = 400) -> float:
    """How much of a badly conditioned quadratic's start is left, whose axes are not those of the weights."""
    torch.manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(12, 12))[0] for _ in range(2))
    steep = torch.logspace(0, 2, 12)[:, None] * torch.logspace(0, 2, 12)
    weight = torch.nn.Parameter(torch.randn(12, 12, 1, 1))
    one = optimiser([weight], lr=0.05, betas=(0.9, 0.98))

    def loss() -> torch.Tensor:
        return (steep * (left @ weight[:, :, 0, 0] @ right).square()).mean()

    start = float(loss().detach())
    for i in range(steps):
        one.param_groups[0]["lr"] = 0.05 * (1 - i / steps)
        one.zero_grad()
        loss().backward()
        one.step()
    return float(loss().detach()) / start


def test_correlated_rows_and_columns_slow_it_less_than_adam() -> None:
    assert descend(SOAP) < 1e-6 * descend(torch.optim.Adam)


@pytest.mark.parametrize("shape", [(7,), (9, 5), (6, 1, 3, 3), (LARGEST_SIDE + 1, 1, 1, 1)])
def test_what_is_no_pointwise_filter_gets_adam(shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    start = torch.randn(shape)
    a, b = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    soap, adam = SOAP([a], lr=0.01), torch.optim.Adam([b], lr=0.01, betas=(0.9, 0.98))
    for _ in range(2 * EVERY + 1):
        gradient = torch.randn(shape)
        a.grad, b.grad = gradient.clone(), gradient.clone()
        soap.step()
        adam.step()
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(12, 5, 1, 1), (LARGEST_SIDE + 8, 4, 1, 1), (4, LARGEST_SIDE + 8, 1, 1)])
def test_bases_stay_orthonormal_and_long_sides_have_none(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    weight = torch.nn.Parameter(torch.zeros(shape))
    soap = SOAP([weight], lr=0.01)
    for _ in range(2 * EVERY):
        weight.grad = torch.randn(shape) * torch.linspace(0.01, 1, shape[1])[None, :, None, None]
        soap.step()
    state = soap.state[weight]
    for side, length in enumerate(shape[:2]):
        assert (f"basis_{side}" in state) == (length <= LARGEST_SIDE)
        if length <= LARGEST_SIDE:
            torch.testing.assert_close(state[f"basis_{side}"].T @ state[f"basis_{side}"], torch.eye(length), atol=1e-4, rtol=0)
    assert weight.isfinite().all() and weight.abs().max() > 0.01
