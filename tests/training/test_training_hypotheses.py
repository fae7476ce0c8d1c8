"""Predictions by cell in training: the same ways back as in a stream, and never a worse prediction than the first."""

import pytest
import torch
from safetensors.torch import save_file

from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.hypotheses import Doubled, Past, Step, Ways, all_predictions, in_sixteenths, ways_back
from neuralcodec.nn.layout import pack
from neuralcodec.training.hypotheses import History, choose_cells
from neuralcodec.training.stages import StageOptions, load_initial, run_stage

HEIGHT, WIDTH = 48, 64


def planes(seed, batch=2):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 1, HEIGHT, WIDTH), generator=g).float(), torch.randint(0, 256, (batch, 2, HEIGHT // 2, WIDTH // 2), generator=g).float()


def vectors(seed, batch=2):
    return torch.randn(batch, 2, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(seed)) * 5


def test_each_sample_goes_the_ways_that_a_stream_would():
    """Samples with long-term references at different times, beside streams of one of them each."""
    lasting = [torch.tensor(flags) for flags in ((False, True), (False, False), (True, False), (False, True), (False, False))]
    history, pasts = History(), [Past(), Past()]
    for n, flags in enumerate(lasting):
        v, reference = vectors(n), planes(10 + n)
        ways = history.ways(v, reference)
        for i in range(2):
            first = Step(in_sixteenths(v[i : i + 1]), Doubled(*(p[i : i + 1] for p in reference)))
            expected = ways_back(first, pasts[i])
            ours = [ways[0], ways[1], ways[2], ways[3], ways[4]]
            theirs = [expected.first, expected.second, expected.third, expected.long[0], expected.long[-1]]
            for a, b in zip(ours, theirs, strict=True):
                assert torch.equal(a.vectors[i : i + 1], b.vectors)
                assert torch.equal(a.planes[0][i : i + 1], b.picture.y) and torch.equal(a.planes[1][i : i + 1], b.picture.uv)
            pasts[i] = expected.past(pasts[i], bool(flags[i]))
        history = history.after(ways, flags)


def _three_frames():
    history = History()
    for n in range(3):
        ways = history.ways(vectors(n), planes(20 + n))
        if n < 2:
            history = history.after(ways, torch.tensor([False, True]))
    return ways


@pytest.mark.parametrize("number", range(10))
def test_a_cell_takes_what_predicts_it(number):
    """The source is one of the predictions: it is found, but for the rounding of means."""
    ways = _three_frames()
    single = [all_predictions(ways_back_of(ways, i)) for i in range(2)]
    current = pack(*(torch.cat([single[i][number][k] for i in range(2)]) for k in range(2)))
    first = pack(*(torch.cat([single[i][0][k] for i in range(2)]) for k in range(2)))
    got = choose_cells(first, current, ways, pack, torch.tensor([100, 150]), 255.0)
    assert (got - current).abs().max() < 1e-3


def ways_back_of(ways, i):
    steps = [Step(w.vectors[i : i + 1], Doubled(*(p[i : i + 1] for p in w.planes))) for w in ways]
    return Ways(*steps[:3], tuple(steps[3:]))


def test_errors_do_not_grow_and_gradient_runs_through_the_first_prediction():
    ways, current = _three_frames(), pack(*planes(40))
    first = pack(*planes(41)).requires_grad_()
    current[..., :4] = first.detach()[..., :4]  # there the first is right
    got = choose_cells(first, current, ways, pack, torch.tensor([100, 20]), 255.0)
    weights = torch.tensor([6.0] * 64 + [4.0] * 32).view(1, -1, 1, 1)
    before, after = (torch.nn.functional.avg_pool2d(((p - current).square() * weights).sum(1, keepdim=True), 2) for p in (first, got))
    assert (after <= before * 1.0001).all() and (after < before).any()
    got.sum().backward()
    shares = first.grad[:, 0]
    assert set(torch.unique(shares).tolist()) <= {0.0, 0.5, 1.0} and (shares[..., :4] == 1).all() and (shares[..., 4:] < 1).all()


def test_it_belongs_to_stages_of_p_frames(tmp_path):
    with pytest.raises(UsageError, match="--hypotheses"):
        run_stage(StageOptions(stage="intra", data=(tmp_path,), run=tmp_path, cache=tmp_path, hypotheses=True))


def test_new_blocks_are_as_wide_as_the_one_before_them(tmp_path):
    """A trunk that is longer than its source's."""
    source = Flagship(FlagshipConfig(IntraConfig(decoder_blocks=2)))
    for i, block in enumerate(source.intra.synthesis.trunk):
        block.selection.logits.data[:] = torch.eye(3) * (1 + i)
    save_file({f"model.{n}": t.contiguous() for n, t in source.state_dict().items()}, tmp_path / "state.safetensors")
    model = Flagship(FlagshipConfig(IntraConfig(decoder_blocks=5)))
    load_initial(model, tmp_path)
    assert [float(b.selection.logits.detach()[0, 0]) for b in model.intra.synthesis.trunk] == [1, 2, 2, 2, 2]
