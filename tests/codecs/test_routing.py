"""Routing agents of AdaNIC: blocks of a picture, work, model files that hold one, the route that asks it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from disturbed import Count, waves
from test_adanic import M, N

from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.coders import check_route, coder_for, place
from neuralcodec.codecs.complexity import complexity
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.routing import STUDENT, TEACHER, RoutingAgent, picture_blocks
from neuralcodec.codecs.slimcae_coding import to_picture
from neuralcodec.core.errors import UsageError

CONFIG = AdaNICConfig(N, M, 4, agent=True)


def macs_of(agent: RoutingAgent, size: int) -> int:
    with torch.no_grad(), Count() as count:
        agent(torch.zeros(1, 3, size, size), torch.tensor([100]))
    return count.macs


def test_work_is_about_what_the_paper_says():
    """77 and 297 million at 256x256, in which squeeze-and-excitation may be contained."""
    assert 65e6 < macs_of(RoutingAgent(5, STUDENT), 256) < 85e6
    assert 255e6 < macs_of(RoutingAgent(5, TEACHER), 256) < 310e6


def test_blocks_of_a_picture_are_in_raster_order():
    x = torch.arange(3 * 4 * 6.0).reshape(1, 3, 4, 6)
    blocks = picture_blocks(x, 2)
    assert blocks.shape == (6, 3, 2, 2) and torch.equal(blocks[4], x[0, :, 2:4, 2:4])


@pytest.mark.parametrize(("length", "expected"), [(1, [0, 0, 0, 0]), (2, [0, 1, 1, 0]), (3, [0, 1, 2, 2]), (4, [0, 1, 2, 3]), (5, [0, 1, 2, 3, 4, 4, 4, 4]),
                                                  (7, [0, 1, 2, 3, 4, 5, 6, 6])])
def test_what_an_edge_cuts_off_is_continued_by_mirror_images_of_its_block(length, expected):
    x = torch.arange(3.0 * length * 4).reshape(1, 3, length, 4)
    for picture, turn in ((x, False), (x.transpose(2, 3), True)):
        blocks = picture_blocks(picture, 4)
        whole = torch.cat([b.transpose(1, 2) if turn else b for b in blocks], 1)
        assert torch.equal(whole, x[0, :, expected])


def test_an_agent_tells_blocks_and_qualities_apart():
    torch.manual_seed(1)
    agent = RoutingAgent(5, costs=True)
    x = torch.rand(2, 3, 64, 64) - 0.5
    logits, costs = agent.both(x, torch.tensor([20, 20]))
    assert logits.shape == costs.shape == (2, 5) and torch.equal(logits, agent(x, torch.tensor([20, 20])))
    assert (logits[0] != logits[1]).all() and (logits != agent(x, torch.tensor([180, 180]))).all()
    assert logits.std(1).min() > 1e-3


def test_the_narrowest_option_is_chosen_that_is_probable_enough(monkeypatch):
    agent = RoutingAgent(3)
    shares = torch.tensor([[0.1, 0.1, 0.8], [0.19, 0.02, 0.79], [0.3, 0.7, 0.0], [0.0, 0.3, 0.7], [1.0, 0.0, 0.0]])
    monkeypatch.setattr(agent, "forward", lambda x, q: (shares + 1e-9).log())
    monkeypatch.setattr("neuralcodec.codecs.routing.SURE", 0.795)
    assert agent.choose(torch.zeros(5), torch.zeros(5)).tolist() == [2, 1, 0, 1, 0]


@pytest.fixture
def loaded(tmp_path):
    torch.manual_seed(4)
    model = AdaNIC(CONFIG).eval()
    with torch.no_grad():
        model.agent.routing[-1].weight.mul_(30)
    save_model(tmp_path / "tiny.safetensors", model, model.width_tables())
    loaded = load_model(tmp_path / "tiny.safetensors")
    place(loaded.model, torch.device("cpu"))
    return loaded


def test_the_route_is_what_the_agent_says_within_the_level(loaded, monkeypatch):
    from neuralcodec.codecs import adanic_coding

    picture, agent = waves(128, 192), loaded.model.agent
    monkeypatch.setattr(agent, "forward", lambda x, q: torch.nn.functional.one_hot((x.flatten(1).mean(1) * 1000).long() % 5, 5) * 9.0)
    monkeypatch.setattr(adanic_coding, "AGENT_BLOCKS", 4)
    blocks = picture_blocks(adanic_coding.to_picture(picture.y, picture.uv), 64)
    expected = agent(blocks, None).argmax(1).reshape(2, 3)
    assert len(expected.unique()) > 2
    coder = coder_for(loaded.model, route="agent")
    for level in (1, 3):
        loaded.model.option = level - 1
        coded = coder.encode_intra(picture, 120, (125, 187))
        assert torch.equal(torch.from_numpy(coded.parsed.capacities), expected.clip(level - 1))
        assert coder.parse("I", coded.payload, coded.modes, 120, (125, 187), None).digest_parts() == coded.parsed.digest_parts()


def test_a_file_keeps_the_agent_and_a_model_without_one_has_no_such_route(loaded, tmp_path):
    assert loaded.model.config == CONFIG
    x, q = torch.rand(1, 3, 64, 64), torch.tensor([50])
    again = load_model(tmp_path / "tiny.safetensors").model
    assert torch.equal(again.agent(x, q), loaded.model.agent(x, q))
    check_route(loaded.model, "agent", 2)
    without = AdaNIC(replace(CONFIG, agent=False))
    with pytest.raises(UsageError, match="no routing agent"):
        check_route(without, "agent", 1)
    parts = {name: complexity(model, b"\0\0") for name, model in (("with", loaded.model), ("without", without))}
    (agent,) = set(parts["with"]) - set(parts["without"])
    heads = sum(m.weight.numel() for m in loaded.model.agent.routing if isinstance(m, torch.nn.Linear))
    assert agent.macs * 64**2 == macs_of(loaded.model.agent, 64) + heads and agent.parameters > 5e5


def test_an_agent_may_see_smaller_blocks(loaded, tmp_path):
    model = AdaNIC(replace(CONFIG, agent_shrink=2)).eval()
    model.agent.load_state_dict(loaded.model.agent.state_dict())
    save_model(tmp_path / "half.safetensors", model, model.width_tables())
    half = load_model(tmp_path / "half.safetensors").model
    assert half.config.agent_shrink == 2
    picture, q = waves(128, 192), torch.tensor([50])
    x = to_picture(picture.y, picture.uv)
    small = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    for agent in (half.agent, RoutingAgent(5, shrink=4)):
        assert torch.allclose(to_picture(*agent.shrunk_planes(picture.y, picture.uv)), agent.shrunk(x), atol=1e-6)
    assert torch.allclose(half.agent.shrunk(x), small, atol=1e-6) and torch.equal(to_picture(*loaded.model.agent.shrunk_planes(picture.y, picture.uv)), x)
    whole = picture.uv.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(to_picture(*half.agent.shrunk_planes(picture.y, whole)), small, atol=1e-6)
    blocks = picture_blocks(small, 32)
    place(half, torch.device("cpu"))
    chosen = coder_for(half, route="agent").choose_capacities(picture, 50, (128, 192))
    assert chosen.reshape(-1).tolist() == half.agent.choose(blocks, q.expand(6)).tolist()
    (work,) = set(complexity(half, b"\0\0")) - set(complexity(AdaNIC(replace(CONFIG, agent=False)), b"\0\0"))
    heads = sum(m.weight.numel() for m in half.agent.routing if isinstance(m, torch.nn.Linear))
    assert work.macs * 64**2 == macs_of(half.agent, 32) + heads
