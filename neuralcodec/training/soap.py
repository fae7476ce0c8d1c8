"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., "SOAP: Improving and stabilizing Shampoo using Adam", 2024, Algorithm 3).

Rate and distortion pull at the same weights in different directions, and most layers here are pointwise: matrices, whose rows and columns are correlated.
Adam's scale for each weight knows nothing of that; in the eigenbasis of the gradients' second moments of rows and of columns it does. With the same
learning rates as AdamW. Parameters other than pointwise filters (biases, gains, depthwise filters) get plain Adam.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_SIDE = 512
"""Sides longer than this keep their own basis: decompositions grow with the cube."""
EVERY = 10
"""Steps between two updates of the bases."""


class SOAP(torch.optim.Optimizer):
    """``lr`` and ``betas`` as in Adam; the second one is also that of the preconditioner's averages."""

    def __init__(self, params, lr: float, betas: tuple[float, float] = (0.9, 0.98), eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            (beta1, beta2), eps = group["betas"], group["eps"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state, gradient = self.state[p], p.grad
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                    self._start_bases(state, gradient)
                state["step"] += 1
                t = int(state["step"])
                state["exp_avg"].lerp_(gradient, 1 - beta1)
                turned = _turn(state, gradient)
                state["exp_avg_sq"].mul_(beta2).addcmul_(turned, turned, value=1 - beta2)
                scale = (state["exp_avg_sq"] / (1 - beta2**t)).sqrt_().add_(eps)
                update = _turn(state, state["exp_avg"]).div_(scale)
                p.add_(_turn(state, update, back=True), alpha=-group["lr"] / (1 - beta1**t))
                self._follow(state, gradient, beta2, t % EVERY == 0)

    @staticmethod
    def _start_bases(state: dict[str, Tensor], gradient: Tensor) -> None:
        if not _is_matrix(gradient):
            return
        for side, moment in _moments(gradient).items():
            state[f"moment_{side}"] = moment
            state[f"basis_{side}"] = torch.linalg.eigh(moment + 1e-12 * torch.eye(len(moment), device=moment.device))[1].flip(1).contiguous()

    @staticmethod
    def _follow(state: dict[str, Tensor], gradient: Tensor, beta: float, turn: bool) -> None:
        """Update the averages and, now and then, the bases by a step of orthogonal iteration."""
        for side, moment in _moments(gradient).items() if "moment_0" in state or "moment_1" in state else ():
            average, basis = state[f"moment_{side}"], state[f"basis_{side}"]
            average.lerp_(moment, 1 - beta)
            if turn:
                product = average @ basis
                order = (basis * product).sum(0).argsort(descending=True)
                state["exp_avg_sq"].copy_(state["exp_avg_sq"].index_select(side, order))
                state[f"basis_{side}"] = torch.linalg.qr(product[:, order])[0].contiguous()


def _is_matrix(x: Tensor) -> bool:
    return x.dim() == 4 and x.shape[2:] == (1, 1) and min(x.shape[:2]) > 1


def _moments(gradient: Tensor) -> dict[int, Tensor]:
    g = gradient.flatten(1)
    return {side: m @ m.T for side, m in ((0, g), (1, g.T)) if len(m) <= LARGEST_SIDE}


def _turn(state: dict[str, Tensor], x: Tensor, back: bool = False) -> Tensor:
    """x (O, I, 1, 1) into the bases, or back; a new tensor."""
    if "basis_0" not in state and "basis_1" not in state:
        return x.clone()
    m = x.flatten(1)
    for side, name in enumerate(("basis_0", "basis_1")):
        if name in state:
            q = state[name] if back else state[name].T
            m = q @ m if side == 0 else m @ q.T
    return m.reshape(x.shape)

