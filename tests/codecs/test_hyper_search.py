"""The search for hyper latents: it costs less by the coder's own count, the same every time, and nothing is changed where nothing can be gained."""

from __future__ import annotations

import pytest
import torch

from neuralcodec.codecs.hyper_search import HyperSearch
from neuralcodec.codecs.prior import SYMBOL_LIMIT, LatentPrior

GRID, QUALITY, WORTH = (12, 20), 90, 10.0


@pytest.fixture
def prior() -> LatentPrior:
    """Of four parts, in which each hyper channel says something else about the latent."""
    torch.manual_seed(5)
    prior = LatentPrior(16, 4, hidden=16, fused=32, parts=4).eval().requires_grad_(False)
    for name, weight in prior.named_parameters():
        if name.endswith("up1.weight"):
            weight.copy_(torch.randn_like(weight))
        if name.endswith("head.weight"):
            weight.mul_(4)
    return prior


def searched(prior: LatentPrior, worth: float = WORTH) -> tuple[HyperSearch, torch.Tensor]:
    random = torch.Generator().manual_seed(2)
    y = 3 * torch.randn(1, 16, *GRID, generator=random) * torch.rand(1, 16, 1, 1, generator=random)
    z = torch.randint(-4, 5, (1, 4, 3, 5), generator=random).float()
    return HyperSearch(prior, y, [], torch.tensor([QUALITY]), torch.full_like(y, worth)), z


def total(search: HyperSearch, z: torch.Tensor) -> float:
    return float(search.cost(z).sum() + search.bits(z).sum())


def test_a_search_finds_what_costs_less_and_more_rounds_no_more(prior):
    search, z = searched(prior)
    costs = [total(search, search.search(z, rounds)) for rounds in (0, 1, 3)]
    assert costs[0] == total(search, z) and costs[1] < 0.995 * costs[0] and costs[2] < costs[1]
    found = search.search(z, 3)
    assert torch.equal(found, search.search(z, 3)) and torch.equal(found, found.round()) and found.abs().max() <= SYMBOL_LIMIT


def test_what_does_not_pay_is_taken_back(prior, monkeypatch):
    search, z = searched(prior)
    slope = search._slope
    monkeypatch.setattr(search, "_slope", lambda at: (slope(at)[0], -slope(at)[1]))
    assert total(search, search.search(z, 3)) <= total(search, z)


def test_symbols_stay_within_their_range(prior, monkeypatch):
    search, z = searched(prior)
    monkeypatch.setattr(search, "cost", lambda at: -100 * at.abs().sum(1, keepdim=True))
    monkeypatch.setattr(search, "_slope", lambda at: (search.cost(at), -100 * torch.sign(at)))
    for sign in (1, -1):
        found = search.search(torch.full_like(z, sign * (SYMBOL_LIMIT - 1)), 6)
        assert torch.equal(found, torch.full_like(z, sign * SYMBOL_LIMIT))


def test_nothing_moves_where_the_prior_does_not_listen(prior):
    search, z = searched(prior)
    prior.up1.weight.zero_()
    zeros = torch.zeros_like(z)
    assert torch.equal(search.search(zeros, 2), zeros)
    nearer = search.search(z, 2)
    assert (nearer.abs() <= z.abs()).all() and total(search, nearer) < total(search, z)


def test_each_round_can_be_ended(prior):
    search, z = searched(prior)
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        search.search(z, 5, stop)
    assert len(calls) == 2
