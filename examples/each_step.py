"""Show each step of the simulated exposure of a raw file.

python examples/each_step.py night.ARW steps/
"""

import sys
from pathlib import Path

import exposurediffusion as ed


def main(source: str, folder: str, ratio: float = 100.0) -> None:
    """Write one picture a step: what the network makes of the exposure so far."""
    frame, model = ed.read_raw(source), ed.load()
    noise = ed.noise_of(frame)
    read = float(noise.read_variance) ** 0.5
    denoise = model.denoiser(ratio, noise.gain, read, noise.saturation)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for step in ed.expose(denoise, frame.planes[None] * ratio, ed.ExposureSchedule.paper(ratio, 2)):
        picture = ed.render(frame.with_planes(step.estimate[0]), quick=True)
        picture.save(Path(folder) / f"step-{step.index}-exposure-{float(step.exposure):.0f}.png")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
