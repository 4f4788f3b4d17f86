"""The gallery of the documentation: scenes in the public domain, taken too dark by simulation, and enhanced.

    python benchmarks/gallery.py FOLDER -o docs

FOLDER is searched with its subfolders for the files that `SCENES` names; two scenes come with scikit-image. Written are
`gallery.md` and `gallery/NAME.jpg`. Look at every picture, and say in `SCENES` what is wrong with it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float
from PIL import Image
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.cli.main import main as expose
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.evaluation.metrics import illuminance_correction, psnr, ssim
from exposurediffusion.files.develop import srgb_to_linear
from exposurediffusion.physics.cameras.known import calibrated_cameras, colours_of
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.random import seed_of
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.read import read_raw
from exposurediffusion.rendering.render import Rendering, render
from exposurediffusion.simulation.capture import simulate_long, simulate_short
from exposurediffusion.simulation.light import Panorama, load_clean, record

WIDEST = 2200  # pixels; wider pictures are averaged down
VIEW = (512, 352), 0.15  # of a panorama: width and height in pixels, mean green of the long exposure
NEUTRAL = (0.5, 1.0, 0.625)
WHOLE, CROP, GAP = 484, (320, 260), 8  # pixels: width of a whole picture, size of a piece at 100 %
TRAINED_ON = Path(__file__).parents[1] / "docs/results/embedded/data.tsv"
INTRODUCTION = """# Gallery

Eight scenes, each recorded too dark by a simulated camera and brightened by the command beneath it, with the
ratio as its only setting. The large pictures are whole frames, made smaller: left the capture, developed brighter by
the ratio; right what `expose enhance` made of it. Below them a piece at 100 %: the capture, the result, and the long
exposure that would have been right. All are developed alike (`tone="linear"`), so that nothing but noise differs.

**They are simulated.** The light is that of a finished photograph or a panorama; the sensor has the measured noise of
the camera: photons, read noise with its tails, rows, rounding, and an error of the black level of which the file
tells nothing. Lenses, movement and a camera's own processing are not in it. Each has one seed; none was
drawn again for a better picture. A scene that the weights were trained on is marked.
PSNR and SSIM are of the raw planes of the whole frame, brightness corrected once
(`final`, [as everywhere](evaluation.md#one-protocol)); the first number is the capture's, the second the result's.

`python benchmarks/gallery.py FOLDER -o docs` makes this page again.
"""


@dataclass(frozen=True)
class Scene:
    """What is taken, how, and what came of it.

    Attributes:
        name, title: of the files, and for people.
        source: name of a picture (.jpg), a panorama (.hdr) or a raw file, or of a picture of scikit-image (no dot).
        credit: who made it, and why it may be shown.
        camera, ratio, iso: of the capture.
        crop: centre of the piece at 100 %, relative to width and height.
        verdict: what one sees, faults included.
    """

    name: str
    title: str
    source: str
    credit: str
    camera: str
    ratio: int
    iso: int
    crop: tuple[float, float]
    verdict: str


SCENES = (
    Scene(
        "shop", "A shop at night", "immich_japanese-shop.jpg", "immich test assets, public domain",
        "SonyA7S2", 100, 1600, (0.78, 0.62),
        "The signs can be read, the tubes keep their colour, the banding is gone. But the bottle behind the sign "
        "has lost its red, a black wall beside it is a warm dark grey (the black level of the capture is off, and"
        " nothing in the file tells), and the writing at the foot of the bottle is lost.",
    ),
    Scene(
        "face", "A face", "astronaut", "NASA (portrait of Eileen Collins), public domain, with scikit-image",
        "CanonEOS5D4", 100, 800, (0.45, 0.22),
        "A likeness, with the light of the eyes and teeth where it was. Strands of hair and the texture of skin "
        "are smoothed away, shadows of face and cloth are a little spotty, and faint clouds of colour remain on "
        "the backdrop.",
    ),
    Scene(
        "chart", "A colour chart", "canon_powershot_g2_0304.CRW", "thorsted/digicam_corpus, CC0-1.0, a raw photograph",
        "NikonD850", 100, 800, (0.45, 0.45),
        "The colours are those of the patches. At 100 % a fine mottling stays in even fields, and edges that "
        "should be ruled are ragged by a pixel or two. The blacks have turned a little green.",
    ),
    Scene(
        "bridge", "A footbridge under lamps", "adams_place_bridge_1k.hdr", "Poly Haven, CC0-1.0, a panorama",
        "SonyA7S2", 300, 3200, (0.28, 0.55),
        "Where it ends. Shapes and lamps are there, but the bushes behind the glass have lost their green, the "
        "facade its windows, and the ceiling has soft clouds of colour. Nobody should be sent this but to show "
        "what was there.",
    ),
    Scene(
        "pier", "Sky and water after sunset", "elementary_Sunset_by_the_Pier.jpg", "elementary wallpapers, CC0-1.0",
        "NikonD850", 300, 3200, (0.5, 0.42),
        "Small, a picture to keep; at 100 % a painting: thin clouds are gone, trees and railings melted, sky and "
        "water are mottled, and single bright specks remain where read noise had its long tails. Dark planks have"
        " a cold cast.",
    ),
    Scene(
        "twig", "Foliage", "elementary_Pablo-Garcia-Saldana.jpg", "Pablo Garcia Saldana, CC0-1.0",
        "SonyA7S2", 250, 1600, (0.6, 0.5),
        "What is in the light is convincing. In the shadows between the leaves detail is smeared with specks of "
        "false colour, and the dark background is uneven.",
    ),
    Scene(
        "board", "Small print", "budgie_motherboard-circuits.jpg", "budgie-backgrounds, CC0-1.0",
        "CanonEOS700D", 30, 1600, (0.34, 0.3),
        "Print that the noise left whole (RB51) reads as in the long exposure; fainter print is broken up, copper"
        " below the lacquer is gone, and the small parts have lost some of their brown.",
    ),
    Scene(
        "cat", "Fur, a little too dark", "chelsea", "Stéfan van der Walt, CC0-1.0, with scikit-image",
        "CanonEOS70D", 8, 3200, (0.5, 0.4),
        "The everyday case. Whiskers and eyes are whole; the finest hairs, which were below the noise, are "
        "smoothed, and along the whiskers a little false colour is left.",
    ),
)  # fmt: skip


def light_of(scene: Scene, files: dict[str, Path]) -> tuple[Float[Tensor, "3 rows columns"], float]:
    """Linear RGB, and the mean green of its long exposure: of a picture that which it has."""
    if "." not in scene.source:
        rgb = srgb_to_linear(getattr(data, scene.source)().astype(np.float32) / 255)
    elif (path := files[scene.source]).suffix == ".CRW":
        rgb = srgb_to_linear(render(read_raw(path)).rgb.astype(np.float32) / 65535)
    elif isinstance(source := load_clean(path, downscale=1), Panorama):
        (width, height), level = VIEW
        top = (width - height) // 2
        return source.view(width, 0.0, 0.1)[:, top : top + height], level
    else:
        rgb = source.pixels.float().permute(1, 2, 0).numpy()
    planes = torch.from_numpy(rgb).permute(2, 0, 1)
    planes = F.avg_pool2d(planes[None], ceil(planes.shape[-1] / WIDEST))[0]
    planes = planes[:, : planes.shape[1] // 4 * 4, : planes.shape[2] // 4 * 4]
    return planes, float(planes[1].mean())


def taken(scene: Scene, files: dict[str, Path]) -> tuple[RawFrame, RawFrame]:
    """The capture and the long exposure."""
    rgb, level = light_of(scene, files)
    camera, cfa = calibrated_cameras()[scene.camera], CFA("RGGB")
    light = record(rgb, colours_of(camera), (1 / NEUTRAL[0], 1 / NEUTRAL[2]), cfa, level)
    generator = torch.Generator().manual_seed(seed_of("gallery", scene.name))
    long = simulate_long(light, cfa, camera, NEUTRAL)
    return simulate_short(light, cfa, camera, NEUTRAL, float(scene.ratio), float(scene.iso), generator)[0], long


def sheet(scene: Scene, capture: Rendering, result: Rendering, long: Rendering) -> Image.Image:
    """Both whole pictures above, three pieces at 100 % below."""
    height, width = capture.rgb.shape[:2]
    wholes = [Image.fromarray(picture.resized(WHOLE).rgb8) for picture in (capture, result)]
    left, top = (
        min(max(0, round(part * side - piece / 2)), side - piece)
        for part, side, piece in zip(scene.crop, (width, height), CROP, strict=True)
    )
    pieces = [p.rgb8[top : top + CROP[1], left : left + CROP[0]] for p in (capture, result, long)]
    page = Image.new("RGB", (2 * WHOLE + GAP, wholes[0].height + GAP + CROP[1]), "white")
    for number, picture in enumerate(wholes):
        page.paste(picture, (number * (WHOLE + GAP), 0))
    for number, piece in enumerate(pieces):
        page.paste(Image.fromarray(piece), (number * (CROP[0] + GAP), wholes[0].height + GAP))
    return page


def shown(scene: Scene, files: dict[str, Path], pictures: Path, quality: int) -> str:
    """Take and enhance a scene by the command, write its picture, and return its paragraph."""
    short, long = taken(scene, files)
    words = ["enhance", f"{scene.name}.dng", "--ratio", str(scene.ratio)]
    with TemporaryDirectory() as folder:
        write_dng(Path(folder) / words[1], short)
        before = Path.cwd()
        os.chdir(folder)
        try:
            if expose([*words, "--quiet"]):
                raise RuntimeError(f"expose {' '.join(words)} failed")
            enhanced = read_raw(f"{scene.name}-enhanced.dng")
        finally:
            os.chdir(before)
    target = long.planes.clamp(0, 1)
    figures = []
    for planes in (short.planes * scene.ratio, enhanced.planes * 2**enhanced.metadata.baseline_exposure):
        corrected = illuminance_correction(planes[None], target[None])[0]
        figures.append(f"{psnr(corrected, target):.1f} dB / {ssim(corrected, target):.3f}")
    page = sheet(scene, render(short, exposure=log2(scene.ratio)), render(enhanced), render(long))
    page.save(pictures / f"{scene.name}.jpg", quality=quality, optimize=True)
    file = files.get(scene.source)
    seen = file and hashlib.sha256(file.read_bytes()).hexdigest() in TRAINED_ON.read_text()
    name = calibrated_cameras()[scene.camera].exif_model
    return f"""
## {scene.title}

![{scene.title}: capture, result, and pieces of both and of the long exposure](gallery/{scene.name}.jpg)

{name}, ISO {scene.iso}, {scene.ratio} times too dark: **{figures[0]}** before, **{figures[1]}** after.

```
expose {" ".join(words)}
```

{scene.verdict}

*{scene.credit}.{" The weights were trained on this picture." if seen else ""}*
"""


def main(
    folder: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    only: tuple[str, ...] = (),
    quality: int = 82,
) -> None:
    """Make the page, or the pictures of some scenes alone.

    Args:
        folder: of the scenes.
        output: the folder of the documentation.
        only: names of scenes; the page is then printed instead of written.
        quality: of the JPEGs.
    """
    files = {path.name: path for path in sorted(folder.rglob("*"))}
    if missing := [s.source for s in SCENES if "." in s.source and s.source not in files]:
        raise SystemExit(f"{folder}: has no {', '.join(missing)}")
    pictures = output / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [shown(scene, files, pictures, quality) for scene in SCENES if not only or scene.name in only]
    if only:
        print("".join(parts))
        return
    (output / "gallery.md").write_text(INTRODUCTION + "".join(parts))


if __name__ == "__main__":
    tyro.cli(main)
