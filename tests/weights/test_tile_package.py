"""Packages for darktable: the rules of its contract, and what it makes of the graph tile by tile."""

from __future__ import annotations

import io
import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.mosaic import CFA, mosaic_from_rgb, unpack
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.weights.file import load
from exposurediffusion.weights.tile_package import GRAPH, check_package, export_darktable, packed
from tests.models.test_tile_graph import scene

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
T, OVERLAP = 128, 32
CAMERA, ISO, RATIO = "SonyA7S2", 1600, 50.0
NOISE = load_profile(CAMERA).at_iso(ISO)
KNOWN = float(NOISE.gain) / NOISE.saturation, float(NOISE.read_variance) / NOISE.saturation**2


def files_of(package: bytes) -> dict[str, bytes]:
    with ZipFile(io.BytesIO(package)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One that is told noise and brightness, and one that finds them in every tile."""
    folder, made = tmp_path_factory.mktemp("packages"), {}
    for name, options in (("told", (KNOWN, RATIO)), ("found", (None, None))):
        assert export_darktable(folder / f"{name}.dtmodel", load(), T, *options) < 1e-5
        made[name] = (folder / f"{name}.dtmodel").read_bytes()
    return made


def runner(package: bytes):
    [graph] = [content for name, content in files_of(package).items() if name.endswith(GRAPH)]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda tile: torch.from_numpy(session.run(None, {"input": tile.contiguous().numpy()})[0])


def as_darktable_does(run, mosaic: torch.Tensor) -> torch.Tensor:
    """Denoise a mosaic that begins with RGGB: tiles reach 32 packed pixels over their part and a mirror completes them;
    they are blended in ramps twice as long, and each site keeps its own colour."""
    rows, columns = (side // 2 for side in mosaic.shape)
    step = T - 2 * OVERLAP
    down, across = -(-rows // step), -(-columns // step)
    edges = (2 * OVERLAP, 2 * (across * step - columns + OVERLAP), 2 * OVERLAP, 2 * (down * step - rows + OVERLAP))
    planes = F.pixel_unshuffle(F.pad(mosaic[None, None], edges, mode="reflect"), 2)
    total = torch.zeros(3, 2 * planes.shape[-2], 2 * planes.shape[-1])
    weights = torch.zeros(total.shape[1:])
    ramp = (torch.arange(4 * OVERLAP) + 0.5) / (4 * OVERLAP)
    for i, j in np.ndindex(down, across):
        weight = []
        for number, count in ((i, down), (j, across)):
            line = torch.ones(2 * T)
            if number > 0:
                line[: 4 * OVERLAP] *= ramp
            if number < count - 1:
                line[-4 * OVERLAP :] *= ramp.flip(0)
            weight.append(line)
        part = (slice(2 * i * step, 2 * (i * step + T)), slice(2 * j * step, 2 * (j * step + T)))
        tile = planes[..., i * step : i * step + T, j * step : j * step + T]
        total[:, *part] += run(tile)[0] * weight[0][:, None] * weight[1]
        weights[part] += weight[0][:, None] * weight[1]
    kept = (slice(2 * OVERLAP, 2 * (OVERLAP + rows)), slice(2 * OVERLAP, 2 * (OVERLAP + columns)))
    return mosaic_from_rgb((total / weights)[:, *kept], CFA("RGGB"))


def frame(name: str = "RGGB") -> tuple[RawFrame, torch.Tensor]:
    """A dark frame of 336x304 sites, and its light at reference brightness."""
    cfa = CFA(name)
    clean = scene(5, 168, texture=0)[..., :152].clamp(max=0.7)
    capture = simulate_capture(clean, torch.tensor([RATIO]), NOISE, torch.Generator().manual_seed(4))[0] / RATIO
    sensor = Sensor.uniform(cfa, 512, 512 + int(NOISE.saturation))
    values = np.round(sensor.digitise(unpack(capture, cfa))).astype(np.uint16)
    return RawFrame(values, sensor, Metadata()), unpack(clean[0], cfa)


def of_white(raw: RawFrame) -> torch.Tensor:
    return torch.from_numpy((raw.mosaic.astype(np.float32) - 512) / raw.sensor.saturation)


@pytest.mark.parametrize("name", ["RGGB", "GBRG"])
def test_colours_are_those_of_enhance(packages: dict[str, bytes], name: str) -> None:
    raw, _ = frame(name)
    rows, columns = CFA(name).origin
    found = as_darktable_does(runner(packages["told"]), of_white(raw)[rows % 2 :, columns % 2 :][: 2 * 167, : 2 * 151])
    ours = enhance(
        raw,
        load(),
        ratio=RATIO,
        steps=0,
        noise=NOISE,
        faithful=False,
        exposure="reference",
        strength=1.0,
        defects=False,
        black="512",
    )
    ours = of_white(ours)[rows % 2 :, columns % 2 :][: found.shape[0], : found.shape[1]]
    difference = (found * RATIO - ours)[32:-32, 32:-32]
    assert float(difference.abs().mean()) < 6e-3  # tiles see less than the whole, and are blended
    for i, j in np.ndindex(2, 2):
        assert abs(float(difference[i::2, j::2].mean())) < 8e-3  # a tile of 128 is all border
    mutant = (found.roll(1, 1) * RATIO - ours)[32:-32, 32:-32]  # colours in each other's place
    assert float(mutant.abs().mean()) > 2e-2


@pytest.mark.parametrize(("kind", "left"), [("told", 0.5), ("found", 0.7)])
def test_tiles_leave_no_seams_and_take_the_noise_away(packages: dict[str, bytes], kind: str, left: float) -> None:
    raw, clean = frame()
    noisy = of_white(raw)
    found = as_darktable_does(runner(packages[kind]), noisy)
    error = found * RATIO - clean
    assert float(error.std()) < left * float((noisy * RATIO - clean).std())
    assert abs(float(error.mean())) < 5e-3  # brightness is darktable's own business
    step = 2 * (T - 2 * OVERLAP)
    jumps = (error[:, 2:] - error[:, :-2]).abs().mean(0)  # from each column to the next of its colour
    at_seams = [jumps[seam - 2 : seam].mean() for seam in range(step, error.shape[1], step)]
    assert float(torch.stack(at_seams).mean() / jumps.mean()) < 1.25
    error[:, step:] += 0.03  # the mutant: a step at the first seam
    jumps = (error[:, 2:] - error[:, :-2]).abs().mean(0)
    assert float(jumps[step - 2 : step].mean() / jumps.mean()) > 1.25


def graph_of(given: list, returned: list, names: tuple[str, str] = ("input", "output"), kind: int = 1) -> bytes:
    """A graph of these shapes that does nothing."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", [names[0]], [names[1]])
    graph = onnx.helper.make_graph([node], "g", [value(names[0], kind, given)], [value(names[1], kind, returned)])
    return onnx.helper.make_model(graph).SerializeToString()


FINE = graph_of([1, 4, T, T], [1, 3, 2 * T, 2 * T])


def changed(package: bytes, change) -> bytes:
    """The package with other files; `change` is given them, and the contents of config.json."""
    files = {**files_of(package), f"told/{GRAPH}": FINE}
    config = json.loads(files["told/config.json"])
    config["attributes"].pop("variants")
    files["told/config.json"] = b""
    change(files, config)
    if files.get("told/config.json") == b"":
        files["told/config.json"] = json.dumps(config).encode()
    return packed(files)


def bayer(config: dict) -> dict:
    return config["attributes"]["model_bayer"]


MUTANTS = {
    "one folder": lambda files, config: files.update({"readme": b"x"}),
    "contains `..`": lambda files, config: files.update({"told/../x": b"x"}),
    "holds config.json": lambda files, config: files.pop("told/config.json"),
    "is JSON": lambda files, config: files.update({"told/config.json": b"{"}),
    "is an object": lambda files, config: files.update({"told/config.json": b"[]"}),
    "has name, a text": lambda files, config: config.pop("name"),
    "id is the folder": lambda files, config: config.update(id="other"),
    "task is": lambda files, config: config.update(task="denoise"),
    "backend is": lambda files, config: config.update(backend="ncnn"),
    "version is": lambda files, config: config.update(version="one"),
    "has model_bayer": lambda files, config: config["attributes"].pop("model_bayer"),
    "input_kind": lambda files, config: bayer(config).update(input_kind="linear_v1"),
    "bayer_orientation": lambda files, config: bayer(config).update(bayer_orientation="rggb"),
    "wb_norm": lambda files, config: bayer(config).pop("wb_norm"),
    "output_scale": lambda files, config: bayer(config).update(output_scale="Absolute"),
    "edge_pad": lambda files, config: bayer(config).update(edge_pad="zero"),
    "list of whole": lambda files, config: bayer(config).update(input_sizes=128),
    "at least 128": lambda files, config: bayer(config).update(input_sizes=[64]),
    "says the same": lambda files, config: config["attributes"].update(
        variants={"bayer": {"onnx": GRAPH, **bayer(config), "wb_norm": "daylight"}}
    ),
    f"holds {GRAPH}": lambda files, config: files.pop(f"told/{GRAPH}"),
    "is an ONNX file": lambda files, config: files.update({f"told/{GRAPH}": b"no"}),
    "called input": lambda files, config: files.update(
        {f"told/{GRAPH}": graph_of([1, 4, T, T], [1, 3, 2 * T, 2 * T], ("x", "output"))}
    ),
    "is float32": lambda files, config: files.update(
        {f"told/{GRAPH}": graph_of([1, 4, T, T], [1, 3, 2 * T, 2 * T], kind=10)}
    ),
    "input is [1, 4, 128, 128]": lambda files, config: files.update(
        {f"told/{GRAPH}": graph_of([1, 4, "h", "w"], [1, 3, 2 * T, 2 * T])}
    ),
    "output is [1, 3, 256, 256]": lambda files, config: files.update(
        {f"told/{GRAPH}": graph_of([1, 4, T, T], [1, 3, T, T])}
    ),
}


@pytest.mark.parametrize("rule", MUTANTS)
def test_each_rule_refuses_who_breaks_it(packages: dict[str, bytes], rule: str) -> None:
    check_package(changed(packages["told"], lambda files, config: None))
    with pytest.raises(ValueError, match="rule of darktable") as refused:
        check_package(changed(packages["told"], MUTANTS[rule]))
    assert rule in str(refused.value)


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(ValueError, match="zip archive"):
        check_package(b"no")


@pytest.mark.parametrize("size", [112, 130, 136])
def test_sizes_have_to_suit(size: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 16, at least 128"):
        export_darktable(tmp_path / "x.dtmodel", load(), size)
    assert not list(tmp_path.iterdir())
