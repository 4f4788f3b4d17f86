import pytest
import torch

from exposurediffusion.enhancement.frame import enhance, enhance_with_maps
from tests.frames import capture


def smooth(state: torch.Tensor, exposure: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(state, 5, 1, 2, count_include_pad=False).clamp(0, 1)


class Tiled:
    """Says how far it sees."""

    halo, multiple = 2, 2

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, state: torch.Tensor, exposure: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(state.shape))
        return smooth(state, exposure)


@pytest.mark.parametrize("name", ["RGGB", "BGGR", "XTRANS"])
def test_any_function_goes_through_the_whole_of_enhance(name):
    frame = capture(name)
    result = enhance(frame, smooth, ratio=50.0, exposure="auto", faithful=False)
    assert result.shape == frame.shape
    assert result.metadata.baseline_exposure == 3  # the scene's lamp
    noisy, clean = (50 * frame.planes)[:, 2:12, 2:12], (8 * result.planes)[:, 2:12, 2:12]
    assert float(clean.diff().std()) < 0.5 * float(noisy.diff().std())
    assert enhance_with_maps(frame, smooth, ratio=50.0).overruled is not None


def test_a_function_that_says_how_far_it_sees_works_in_tiles():
    options = {"ratio": 50.0, "steps": 1, "precision": "fp32"}
    tiled = Tiled()
    in_tiles = enhance(capture(), tiled, tile=16, **options)
    torch.testing.assert_close(in_tiles.planes, enhance(capture(), smooth, **options).planes)
    assert len(tiled.seen) > 2
    assert max(shape[-1] for shape in tiled.seen) <= 16 + 4
    with pytest.raises(ValueError, match="how far it sees"):
        enhance(capture(), smooth, tile=16, **options)


def test_two_steps_are_the_default_of_a_function_without_weights():
    calls = []

    def counted(state: torch.Tensor, exposure: torch.Tensor) -> torch.Tensor:
        calls.append(float(exposure[0]))
        return smooth(state, exposure)

    enhance(capture(), counted, ratio=50.0)
    assert calls == pytest.approx([1, 25.5, 50])


def test_a_function_that_makes_no_image_is_refused():
    with pytest.raises(ValueError, match="the denoiser makes"):
        enhance(capture(), lambda state, exposure: state[:, :1], ratio=50.0)
