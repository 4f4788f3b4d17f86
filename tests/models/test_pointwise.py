import pytest
import torch

from exposurediffusion.models.pointwise import PointwiseConv
from exposurediffusion.models.unet import UNet


@pytest.fixture
def threads():
    """Sets the number of threads, and sets it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_convolution(generator, layout):
    ours = PointwiseConv(16, 9)
    theirs = torch.nn.Conv2d(16, 9, 1)
    theirs.load_state_dict(ours.state_dict())
    planes = torch.rand((2, 16, 12, 20), generator=generator).contiguous(memory_format=layout)
    torch.testing.assert_close(ours(planes), theirs(planes), atol=1e-6, rtol=0)


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@torch.inference_mode()
def test_a_network_gives_the_same_bits_on_any_number_of_threads(generator, threads, upsampling, monkeypatch):
    network = UNet(8, 9, width=16, depth=4, upsampling=upsampling)
    planes = torch.rand((1, 8, 192, 256), generator=generator).contiguous(memory_format=torch.channels_last)

    def apart() -> bool:
        """Whether three numbers of threads give different bits."""
        results = []
        for count in (1, 2, 3):
            threads(count)
            results.append(network(planes))
        for other in results[1:]:
            torch.testing.assert_close(other, results[0], atol=1e-5, rtol=0)
        return not all(torch.equal(other, results[0]) for other in results[1:])

    same = not apart()
    monkeypatch.setattr(PointwiseConv, "forward", torch.nn.Conv2d.forward)
    if torch.backends.cpu.get_cpu_capability() == "AVX2":  # as on the processors that this was measured on
        assert same
        assert apart()  # twin: convolutions as the library makes them
