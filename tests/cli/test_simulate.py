"""`expose simulate`: raw files that decode to what was simulated, named and tagged as SID's and ELD's are."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image

from exposurediffusion.cli.main import main
from exposurediffusion.files.exif import EXPOSURE_TIME, ISO, SOFTWARE, read_tags
from exposurediffusion.physics.cameras.known import find_camera, load_profile
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.parameters import tukey_lambda_variance
from exposurediffusion.raw.read import read_raw
from exposurediffusion.simulation import write
from exposurediffusion.simulation.scenes import MANIFEST, known_noise
from tests.statistics import BOUND, mean_z, variance_z

RATIO_OF_TIME = {"0.1": 100, "0.04": 250, "0.033": 300}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two photographs and a panorama, all different."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(3)
    for name, shape in (("a.png", (140, 200)), ("b.png", (130, 120))):
        Image.fromarray(random.integers(20, 250, (*shape, 3)).astype(np.uint8)).save(folder / name)
    (folder / "sub").mkdir()
    light = random.random((128, 256, 3), dtype=np.float32) + 0.1
    (folder / "sub" / "c.hdr").write_bytes(imagecodecs.rgbe_encode(light, header=True))
    return folder


@pytest.fixture
def run(capsys, pictures, tmp_path):
    """Simulate small frames into a folder: exit code, results of --json, stderr."""

    def call(*options, images=pictures, output=tmp_path / "set", size=48):
        command = ["simulate", "--images", images, "-o", output, "--size", size, "--json", *options]
        try:
            code = main([str(word) for word in command])
        except SystemExit as leave:
            code = leave.code
        captured = capsys.readouterr()
        return code, json.loads(captured.out)["results"] if captured.out.startswith("{") else [], captured.err

    return call


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def photographs(root: Path) -> list[str]:
    return [name for name in tree(root) if name != MANIFEST]


def planned(root: Path, **changes) -> dict[str, np.ndarray]:
    """The mosaics that were to be written."""
    seen: dict[str, np.ndarray] = {}
    original = write.write_dng

    def keep(path, frame, **options):
        seen[path.relative_to(root).as_posix()] = frame.mosaic
        return original(path, frame, **options)

    changes["monkeypatch"].setattr(write, "write_dng", keep)
    return seen


def test_sid_layout(run, tmp_path):
    code, (result,), err = run("--shorts", 2)
    assert code == 0, err
    root = tmp_path / "set"
    assert result["splits"] == {"train": 1, "test": 1, "validation": 1}
    assert result["made"] == 21
    scenes = ("00001", "10002", "20003")
    expected = {f"Sony/long/{scene}_00_10s.dng" for scene in scenes}
    expected |= {f"Sony/short/{s}_{n:02d}_{t}s.dng" for s in scenes for n in (0, 1) for t in RATIO_OF_TIME}
    assert set(photographs(root)) == expected
    entries = {path: shot for s in json.loads((root / MANIFEST).read_text())["scenes"].values()
               for path, shot in s["files"].items()}  # fmt: skip
    assert set(entries) == expected
    assert set(known_noise(root)) == {path for path in expected if "/short/" in path}
    for path in expected:
        frame, shot = read_raw(root / path), entries[path]
        long_time, time = 10.0, path.rpartition("_")[2].removesuffix("s.dng")
        assert min(long_time / float(time), 300) == pytest.approx(shot["ratio"])  # SID's rule
        assert frame.metadata.iso == shot["iso"]
        assert frame.metadata.shutter == pytest.approx(shot["shutter"])
        assert 100 * long_time / (shot["iso"] * shot["shutter"]) == pytest.approx(shot["ratio"])
        assert find_camera(frame.metadata.camera).name == "SonyA7S2"
        assert (frame.shape, frame.sensor.white_level, set(frame.sensor.black_level)) == ((48, 48), 16383, {512.0})


def test_files_say_that_no_camera_took_them_and_when_they_were_made_is_not_in_them(run, tmp_path):
    run("--scenes", 1)
    tags = read_tags(tmp_path / "set" / "Sony" / "long" / "00001_00_10s.dng")
    assert "Simulated" in tags.main[270].text
    assert tags.main[SOFTWARE].text == "ExposureDiffusion"
    assert tags.main[306].text.startswith("2000:")


@pytest.mark.parametrize(
    "options", [("--cfa", "rggb"), ("--cfa", "gbrg"), ("--cfa", "xtrans"), ("--layout", "eld", "--long-noise")]
)
def test_read_raw_gives_the_numbers_back(run, tmp_path, monkeypatch, options):
    root = tmp_path / "set"
    written = planned(root, monkeypatch=monkeypatch)
    assert run("--scenes", 1, "--darks", 1, "--dark-shading", 2, *options)[0] == 0
    assert set(written) == set(photographs(root))
    for path, mosaic in written.items():
        frame = read_raw(root / path)
        np.testing.assert_array_equal(frame.mosaic, mosaic)
        assert frame.shape == (48, 48)
        if options[0] == "--cfa":
            assert frame.sensor.cfa.name == options[1].upper()


def test_xtrans_is_sids_fuji_and_claims_no_camera_that_exists(run, tmp_path):
    assert run("--cfa", "xtrans", "--scenes", 1)[0] == 0
    frame = read_raw(tmp_path / "set" / "Fuji" / "short" / "00001_00_0.1s.dng")
    assert not frame.sensor.cfa.is_bayer
    assert set(frame.sensor.black_level) == {1024.0}
    assert frame.metadata.make == "Simulated"
    assert find_camera(frame.metadata.camera).name == "SonyA7S2"


def test_eld_layout_has_exact_ratios_in_exif(run, tmp_path):
    code, (result,), err = run("--layout", "eld", "--camera", "NikonD850", "--scenes", 2)
    assert code == 0, err
    assert result["made"] == 32
    folder = tmp_path / "set" / "NikonD850"
    assert sorted(p.name for p in folder.iterdir()) == ["scene-1", "scene-2"]
    light = {}
    for image in range(1, 17):
        exif = read_tags(folder / "scene-2" / f"IMG_{image:04d}.dng").exif
        top, bottom = np.frombuffer(exif[EXPOSURE_TIME].data, "<u4").tolist()
        light[image] = int(exif[ISO].numbers[0]), Fraction(top, bottom)
    for image, (iso, time) in light.items():
        if image % 5 == 1:
            assert (iso, time) == (100, 10)
            continue
        reference = min((1, 6, 11, 16), key=lambda number: abs(number - image))
        ratio = Fraction(light[reference][0]) * light[reference][1] / (iso * time)
        assert ratio == (1, 10, 100, 200)[(image - 2) % 5]
        assert iso == {0: 800, 1: 1600, 2: 3200}[(image - 1) // 5]


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Path:
    """A data set of a grey wall."""
    folder = tmp_path_factory.mktemp("flat")
    Image.fromarray(np.full((520, 520, 3), 128, dtype=np.uint8)).save(folder / "wall.png")
    arguments = ["--images", folder, "-o", folder / "set", "--size", 256, "--seed", 5]
    assert main(["simulate", *map(str, arguments)]) == 0
    return folder / "set"


@pytest.mark.parametrize("time", RATIO_OF_TIME)
def test_noise_is_that_of_the_manifest(flat, time):
    path = f"Sony/short/00001_00_{time}s.dng"
    noise = known_noise(flat)[path]
    frame, long = read_raw(flat / path), read_raw(flat / "Sony/long/00001_00_10s.dng")
    assert noise.saturation == frame.sensor.saturation
    for plane in range(4):
        dn = frame.planes[plane].double().numpy() * noise.saturation
        light = float(long.planes[plane].mean()) * noise.saturation / RATIO_OF_TIME[time]
        bias = float(noise.colour_bias[0, plane])
        assert abs(mean_z(dn.mean(axis=1), light + bias)) < BOUND  # a row shares its offset, rows are independent
        assert abs(mean_z(dn.mean(axis=1), light + bias + 1)) > BOUND  # twin: a DN more
        differences = (dn[:, 0::2] - dn[:, 1::2]) / np.sqrt(2)  # free of offsets

        def expected(gain: float, light: float = light) -> float:
            read = float(noise.read[0]) ** 2 * float(tukey_lambda_variance(float(noise.tukey_shape[0])))
            return gain * light + read + 1 / 12

        assert abs(variance_z(differences, expected(float(noise.gain[0])))) < BOUND
        if time == "0.1":  # where light tells
            assert abs(variance_z(differences, expected(2 * float(noise.gain[0])))) > BOUND  # twin


def test_level_of_the_long_exposure(flat, run, tmp_path):
    run()
    for root in (flat, tmp_path / "set"):
        for name, scene in json.loads((root / MANIFEST).read_text())["scenes"].items():
            planes = read_raw(root / f"{name.replace('/', '/long/')}_00_10s.dng").planes
            assert 0.03 <= scene["level"] <= 0.16
            assert float(planes[1::2].mean()) == pytest.approx(scene["level"], rel=0.03)


def test_same_bytes_for_any_number_of_workers_and_threads(run, tmp_path):
    assert run("--darks", 1)[0] == 0
    expected = tree(tmp_path / "set")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert run("--darks", 1, "--workers", 2, output=tmp_path / "workers")[0] == 0
        assert run("--darks", 1, output=tmp_path / "threads")[0] == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert tree(tmp_path / "workers") == expected
    assert tree(tmp_path / "threads") == expected
    assert run("--seed", 1, output=tmp_path / "other")[0] == 0
    assert not set(tree(tmp_path / "other").values()) & set(expected.values())


def test_more_scenes_and_shorts_leave_the_others_as_they_were(run, tmp_path):
    run("--scenes", 2)
    before = tree(tmp_path / "set")
    code, (result,), _ = run("--scenes", 4, "--shorts", 2)
    assert (code, result["kept"], result["made"]) == (0, 8, 20)
    after = tree(tmp_path / "set")
    assert {name: after[name] for name in before if name != MANIFEST} == {
        name: data for name, data in before.items() if name != MANIFEST
    }
    draws = [after[f"Sony/short/00001_{n}_0.1s.dng"] for n in ("00", "01")]
    assert draws[0] != draws[1]


def test_goes_on_where_it_was_interrupted(run, tmp_path, monkeypatch):
    assert run()[0] == 0
    expected = tree(tmp_path / "set")
    render, calls = write.render_picture, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return render(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(write, "render_picture", interrupted)
        code, _, err = run(output=tmp_path / "again")
    assert code == 130
    assert "interrupted" in err
    cut = next((tmp_path / "again").rglob("*.dng"))
    cut.write_bytes(cut.read_bytes()[:100])
    code, (result,), _ = run(output=tmp_path / "again")
    assert (code, result["kept"], result["made"]) == (0, 3, 9)
    assert tree(tmp_path / "again") == expected


@pytest.mark.parametrize("options", [("--seed", 1), ("--size", 50), ("--dark-shading", 2), ("--camera", "NikonD850")])
def test_files_made_otherwise_are_not_touched_unasked(run, tmp_path, options):
    run("--scenes", 1)
    before = tree(tmp_path / "set")
    code, _, err = run("--scenes", 1, *options)
    assert code == 2
    assert "was made otherwise" in err
    assert tree(tmp_path / "set") == before
    assert run("--scenes", 1, *options, "--overwrite")[0] == 0
    assert tree(tmp_path / "set") != before


def test_splits_and_cameras_share_a_folder(run, tmp_path):
    assert run("--split", "train")[0] == 0
    assert run("--split", "test", "--scenes", 1)[0] == 0
    assert run("--layout", "eld", "--scenes", 1)[0] == 0
    assert {name[:7] for name in known_noise(tmp_path / "set")} == {"Sony/sh", "SonyA7S"}
    digits = {Path(name).name[0] for name in photographs(tmp_path / "set") if name.startswith("Sony/long")}
    assert digits == {"0", "1"}


def test_a_bad_picture_does_not_stop_the_others(run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(np.full((90, 200, 3), 99, dtype=np.uint8)).save(folder / "small.png")
    Image.fromarray(np.zeros((200, 200, 3), dtype=np.uint8)).save(folder / "black.png")
    Image.fromarray(np.full((200, 200, 3), 99, dtype=np.uint8)).save(folder / "fine.png")
    code, results, err = run("--scenes", 8, images=folder)
    assert code == 1
    assert [entry["scenes"] for entry in results[:-1]] == [2, 2, 2]
    assert (results[-1]["scenes"], results[-1]["made"]) == (2, 8)
    for line in (f"{folder / 'broken.jpg'}: cannot be read", f"{folder / 'small.png'}: 100x45 pixels", "it is black"):
        assert line in err
    assert len(json.loads((tmp_path / "set" / MANIFEST).read_text())["scenes"]) == 2
    assert len(photographs(tmp_path / "set")) == 8


@pytest.mark.parametrize(
    "options",
    [
        ("--camera", "Kodak Brownie"),
        ("--ratios", 100),
        ("--ratios", 100, 250, 301),
        ("--ratios", "nan", 1, 1),
        ("--ratios", 0.5, 1, 1),
        ("--isos", 800, 1600, 0),
        ("--size", 49),
        ("--size", 50, "--cfa", "xtrans"),
        ("--scenes", 0),
        ("--workers", 0),
        ("--darks", -1),
        ("--dark-shading", -1),
        ("--layout", "eld", "--shorts", 2),
        ("--layout", "eld", "--split", "test"),
        ("--layout", "eld", "--ratios", 1, 2),
        ("--layout", "raw"),
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_wrong_usage_is_exit_code_2(run, tmp_path, options):
    code, _, err = run(*options)
    assert code == 2
    assert "Traceback" not in err
    assert not (tmp_path / "set").exists()


def test_no_pictures_is_wrong_usage(run, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        code, _, err = run(images=folder)
        assert code == 2
        assert str(folder) in err


def test_a_full_disk_is_told_before_the_start(run, tmp_path, monkeypatch):
    monkeypatch.setattr(write.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10_000})())
    code, _, err = run()
    assert code == 1
    assert "GB are free" in err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"scenes": {"a": 1}}'])
def test_a_damaged_manifest_is_named(run, tmp_path, text):
    run("--scenes", 1)
    (tmp_path / "set" / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=MANIFEST):
        known_noise(tmp_path / "set")
    code, _, err = run("--scenes", 1)
    assert code == 2
    assert MANIFEST in err
    assert run("--scenes", 1, "--overwrite")[0] == 0
    assert len(known_noise(tmp_path / "set")) == 3


def test_a_profile_of_ones_own_camera(run, tmp_path):
    profile = json.loads(find_camera("SonyA7S2").to_json()) | {"name": "My/Camera", "exif_model": "Acme One"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(profile))
    assert run("--camera", path, "--layout", "eld", "--scenes", 1)[0] == 0
    frame = read_raw(tmp_path / "set" / "My-Camera" / "scene-1" / "IMG_0004.dng")
    assert frame.metadata.camera == "Acme One"
    assert frame.metadata.colour_matrix is not None


@pytest.mark.parametrize("cfa", ["rggb", "xtrans"])
def test_a_profile_without_matrix_shapes_and_colour_bias(run, tmp_path, cfa):
    bare = replace(load_profile("SonyA7S2"), name="Bare", tukey_shapes=(), colour_bias=(), colour_matrix=())
    (tmp_path / "bare.json").write_text(bare.to_json())
    assert run("--camera", tmp_path / "bare.json", "--cfa", cfa, "--scenes", 1, "--dark-shading", 5)[0] == 0
    assert {noise.colour_bias for noise in known_noise(tmp_path / "set").values()} == {None}


def test_dark_frames_have_the_sensors_pattern(run, tmp_path):
    options = ("--scenes", 1, "--darks", 6, "--dark-shading", 20)
    assert run(*options)[0] == 0
    root, noise = tmp_path / "set" / "Sony", known_noise(tmp_path / "set")
    assert len(list((root / "dark").glob("ISO*.dng"))) == 18
    biases = {tuple(v.colour_bias[0].tolist()) for name, v in noise.items() if "ISO1600_" in name or "_0.04s" in name}
    assert len(biases) == 1  # of one ISO, darks and captures alike

    def stack(iso: int) -> np.ndarray:
        frames = [read_raw(path).mosaic.astype(float) for path in sorted((root / "dark").glob(f"ISO{iso}_*"))]
        return np.mean(frames, axis=0) - 512

    low, high = stack(800), stack(3200)
    assert np.corrcoef(low.ravel(), high.ravel())[0, 1] > 0.5  # one sensor: (0.4 * 1.6 + 0.6^2) / (0.72 * 1.71) = 0.81
    assert abs(np.corrcoef(low.ravel(), high.T.ravel())[0, 1]) < 0.5  # twin: another one
    assert high.std() / low.std() == pytest.approx(np.hypot(1.6, 0.6) / np.hypot(0.4, 0.6), rel=0.15)
    columns = low.mean(axis=0)
    assert np.std(np.diff(columns)) > 5  # columns beside each other differ, rows (of one noise) do not
    assert np.std(np.diff(low.mean(axis=1))) < 3


def test_dark_frames_correct_the_captures(run, tmp_path):
    options = ("--scenes", 1, "--darks", 8, "--dark-shading", 20, "--ratios", 300, 300, 300)
    assert run(*options)[0] == 0
    root = tmp_path / "set" / "Sony"

    def numbers(path: Path) -> torch.Tensor:
        return read_raw(path).planes * 15871

    stacks = {
        float(iso): torch.stack([numbers(path) for path in sorted((root / "dark").glob(f"ISO{iso}_*"))])
        for iso in (800, 1600, 3200)
    }
    long, short = (next((root / name).glob("*")) for name in ("long", "short"))
    capture, light = numbers(short), numbers(long) / 300
    iso = read_raw(short).metadata.iso or 0.0
    dark = DarkShading.fit(stacks, 15871.0)
    corrected = dark.correct(capture / 15871, iso) * 15871
    before, after = (float((x - light).square().mean().sqrt()) for x in (capture, corrected))
    assert after < before / 2
    wrong = float((capture - dark.map(iso).flip(-1) - light).square().mean().sqrt())
    assert wrong > before / 2  # twin: the shading of another sensor
