"""The coder that belongs to a model."""

from __future__ import annotations

import torch

from neuralcodec.codecs import coding
from neuralcodec.codecs.adanic import AdaNIC
from neuralcodec.codecs.adanic_coding import AGENT, AdaNICCoder, route_option
from neuralcodec.codecs.coding import FlagshipCoder
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.slimcae import SlimCAE
from neuralcodec.codecs.slimcae_coding import SlimCAECoder
from neuralcodec.core.errors import UsageError

AnyModel = Flagship | SlimCAE | AdaNIC


def coder_for(model: AnyModel, device: torch.device | None = None, route: str | None = None) -> FlagshipCoder:
    """A new coder for a frozen model that stands on ``device`` (see ``place``). ``route``: one that ``check_route`` lets through."""
    if isinstance(model, AdaNIC):
        coder = AdaNICCoder(model, device)
        coder.route = route or coder.route
        return coder
    return SlimCAECoder(model, device) if isinstance(model, SlimCAE) else FlagshipCoder(model, device)


def check_route(model: AnyModel, route: str | None, level: int) -> None:
    """Raises UsageError for a route (of AdaNICCoder) that a model cannot take at a level, from 1."""
    if route is None:
        return
    if not isinstance(model, AdaNIC):
        raise UsageError(f"route {route}: the model has no capacities to choose from by block")
    route_option(route, model.levels, level)
    if route == AGENT and model.agent is None:
        raise UsageError(f"route {route}: the model has no routing agent")


def place(model: AnyModel, device: torch.device) -> None:
    """Move the picture side to a device; the exact path stays on the CPU, beside the entropy coder."""
    if isinstance(model, SlimCAE | AdaNIC):
        model.to(device)
        model.prior.to("cpu")
    else:
        coding.place(model, device)
