"""Batches: what decides them over iterations and processes, numbers or seeds, and what pairs bring along."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from exposurediffusion.datasets.samples import Sample
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.random import seeded
from exposurediffusion.physics.sensor import SATURATION
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.training import batches as module
from exposurediffusion.training.batches import TOGETHER, Batch, batches, collate
from tests.tiny import Light, clean_views


def numbers(first: int, count: int, batch: int = 2, rank: int = 0, processes: int = 1) -> list[int]:
    share = batches(Light(), 4, batch, first, count, rank=rank, processes=processes)
    return [number for made in share for number in made.numbers]


def test_every_patch_comes_once_and_a_resumed_run_goes_on_counting() -> None:
    assert numbers(0, 5) == list(range(10))
    assert numbers(0, 2) + numbers(2, 3) == list(range(10))
    assert numbers(5, 0) == []


def test_two_processes_share_the_patches_of_one_with_twice_the_batch() -> None:
    for first in (0, 3):
        shares = [numbers(first, 4, 2, rank, 2) for rank in (0, 1)]
        merged = [number for i in range(4) for share in shares for number in share[2 * i : 2 * i + 2]]
        assert merged == numbers(first, 4, 4)
        assert not set(shares[0]) & set(shares[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_patches_are_those_of_their_numbers_in_any_process(workers: int) -> None:
    data = Light(ratios=(100.0, 250.0))
    for batch in batches(data, 4, 3, 2, 3, workers=workers):
        assert batch.clean.shape == (3, 4, 4, 4)
        for place, number in enumerate(batch.numbers):
            sample = data.patch(number, 4)
            assert sample.capture is not None
            assert torch.equal(batch.clean[place], sample.clean)
            assert batch.capture is not None
            assert torch.equal(batch.capture[place], sample.capture)
            assert batch.ratio is not None
            assert float(batch.ratio[place]) == sample.ratio


def test_clean_patches_bring_nothing_else() -> None:
    (batch,) = batches(Light(planes=9), 4, 2, 0, 1)
    assert set(batch.tensors()) == {"clean"}
    assert batch.clean.shape == (2, 9, 4, 4)


def test_noise_of_pairs_is_told_in_the_unit_of_training() -> None:
    """A camera of 12 bits has a quarter of the DN of one of 14."""
    own, short = Light(ratios=(100.0,)), Light(ratios=(100.0,), saturation=SATURATION / 4)
    for data, factor in ((own, 1.0), (short, 4.0)):
        (batch,) = batches(data, 4, 2, 0, 1)
        assert set(batch.tensors()) == {"clean", "capture", "ratio", "gain", "read_variance"}
        assert batch.gain is not None
        assert batch.gain.tolist() == pytest.approx([0.8 * factor] * 2)
        assert batch.read_variance is not None
        assert batch.read_variance.tolist() == pytest.approx([9.0 * factor**2] * 2)


@pytest.mark.parametrize("missing", ["ratio", "noise"])
def test_a_capture_of_which_nothing_is_known_is_refused(missing: str) -> None:
    clean = torch.zeros((4, 2, 2))
    sample = Sample(clean, "scene 7", clean, 100.0, 800.0, NoiseParameters.gaussian(1.0, 1.0))
    with pytest.raises(ValueError, match="scene 7: a capture without its ratio and noise"):
        collate((0,), [replace(sample, **{missing: None})])


def test_a_batch_moves_as_a_whole() -> None:
    batch = collate((3,), [Light(ratios=(100.0,)).patch(3, 4)])
    moved = batch.to(torch.device("meta"))
    assert moved.numbers == (3,)
    assert {name for name, tensor in moved.tensors().items() if tensor.is_meta} == set(batch.tensors())
    assert isinstance(moved, Batch)


# ------------------------------------------------------------------------------------------------------------- views


def light_of(views: CleanViews, first: int, count: int, seed: int = 4, rank: int = 0) -> list[torch.Tensor]:
    return [made.clean for made in batches(views, 8, 3, first, count, seed=seed, rank=rank, processes=2)]


def test_views_follow_from_seed_iteration_and_process() -> None:
    views = clean_views("XTRANS")
    made = list(batches(views, 8, 3, 2, 4, seed=4, rank=1, processes=2))
    assert [batch.numbers for batch in made] == [tuple(range(6 * i + 3, 6 * i + 6)) for i in range(2, 6)]
    assert all(set(batch.tensors()) == {"clean"} for batch in made)
    assert made[0].clean.shape == (3, 9, 8, 8)
    torch.manual_seed(3)
    again = light_of(views, 4, 2, rank=1)  # a resumed run
    assert all(torch.equal(a, b.clean) for a, b in zip(again, made[2:], strict=True))
    others = [light_of(views, 4, 1, seed, rank)[0] for seed, rank in ((4, 0), (5, 1))]
    sums = [float(light.sum()) for light in (*again, *others)]
    assert len(set(sums)) == 4


class Remote(CleanViews):
    """Views that seem to be on a GPU."""

    asked: int = 0

    @property
    def device(self) -> torch.device:
        return torch.device("cuda")

    def batch(self, count: int, size: int, generator: torch.Generator) -> torch.Tensor:
        Remote.asked += 1
        return super().batch(count, size, generator)


def test_on_a_gpu_several_batches_are_made_at_once_and_still_follow_from_the_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "seeded", lambda *numbers, device: seeded(*numbers))
    near = clean_views()
    views = Remote(near.pictures, near.cfa)
    made = light_of(views, 0, 2 * TOGETHER)
    assert Remote.asked == 2
    assert all(light.shape == (3, 4, 8, 8) for light in made)
    assert len({float(light.sum()) for light in made}) == 2 * TOGETHER
    for first in (1, TOGETHER - 1, TOGETHER, TOGETHER + 2):  # wherever a resumed run begins
        assert all(torch.equal(a, b) for a, b in zip(light_of(views, first, 3), made[first:], strict=False))
    together = near.batch(3 * TOGETHER, 8, seeded(4, 0, 0, 5))
    whole = torch.stack(made[:TOGETHER], dim=1).flatten(0, 1)  # the panoramas, which come first, are dealt out
    assert torch.equal(whole, together)
