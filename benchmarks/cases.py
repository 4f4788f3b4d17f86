"""Small raw files that go wrong, each for its kind: what the command makes of them now, and what is wanted.

    python benchmarks/cases.py --cases FOLDER [--only c14 c18 ...] [--ratio 30] [--messages] [--output FILE.json]

FOLDER holds the files named below, one scene recorded with one fault each, `truth.npz` (`rgb`: camera RGB of the clean
scene, 1 = white of the reference exposure) and `hot_sites.npy` (the hot sites of c18). Each file goes through
`expose enhance`; its DNG is read back and compared. PSNR: at reference exposure, mosaics, clipped, nothing corrected.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import machine
from PIL import Image
from tifffile import DATATYPE, TiffFile, TiffTag

from exposurediffusion.cli.main import main as expose
from exposurediffusion.physics.mosaic import mosaic_from_rgb
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.read import read_raw

PLAIN = "c00_plain"
GAIN, READ = 2.0, 6.0  # of the recording, DN per electron and DN
OPCODES = {"OpcodeList2": 51009, "OpcodeList3": 51022}
DEFAULT_SCALE, USER_CROP = {"DefaultScale": 50718}, {"DefaultUserCrop": 51125}


@dataclass(frozen=True)
class Run:
    """One file through the command.

    Attributes:
        source: the file.
        said: all messages, with FILE for its name, which may hold the very word that is looked for.
        frame: as read; None: it was refused.
        result: the DNG written, read again; None: none was.
        output: that DNG.
    """

    source: Path
    said: str
    frame: RawFrame | None
    result: RawFrame | None
    output: Path


@dataclass(frozen=True)
class Bench:
    """What runs are compared with: the truth, the hot sites, the run of the file that has no fault, the ratio."""

    truth: torch.Tensor
    hot: np.ndarray
    ratio: float
    plain: Run

    def expected(self, run: Run) -> np.ndarray:
        """The clean mosaic of a run, at reference exposure."""
        assert run.result is not None
        return mosaic_from_rgb(self.truth, run.result.sensor.cfa).numpy()

    def psnr(self, run: Run) -> float:
        """Of a result, dB; not a number where there is none, or one of another size."""
        if run.result is None or run.result.shape != tuple(self.truth.shape[1:]):
            return float("nan")
        return -10 * float(np.log10(np.mean((_values(run.result).clip(0, 1) - self.expected(run)) ** 2)))


Found = tuple[str, bool]
Measure = Callable[[Bench, Run], Found]


def as_good(bench: Bench, run: Run, loss: float = 0.1, word: str = "", least: float = -np.inf) -> Found:
    """PSNR, which may be so much lower than without the fault, and has a least value; a word that has to be said."""
    value, bound = bench.psnr(run), max(least, bench.psnr(bench.plain) - loss)
    heard = bool(re.search(word, run.said, re.IGNORECASE))
    return f"{value:.2f} dB" + ("" if heard else ", no word"), value >= bound and heard


def said(bench: Bench, run: Run, word: str, not_word: str = "(?!)", done: bool | None = None) -> Found:
    """A message with one word and without another; and whether there has to be a result."""
    right = bool(re.search(word, run.said, re.IGNORECASE)) and not re.search(not_word, run.said, re.IGNORECASE)
    value = "refused" if run.result is None else f"{bench.psnr(run):.2f} dB"
    return f"{value}, {'said' if right else 'not said'}", right and done in (None, run.result is not None)


def decoded(bench: Bench, run: Run) -> Found:
    """As good as the plain file, or refused as not supported."""
    if run.result is not None:
        return as_good(bench, run)
    return said(bench, run, "not supported", "damaged|copy it again")


def hot_sites(bench: Bench, run: Run) -> Found:
    """Share of the hot sites within three deviations of the capture's noise."""
    if run.result is None:
        return "refused", False
    truth = bench.expected(run)
    unit = bench.ratio / run.result.sensor.saturation
    deviation = np.sqrt(GAIN * unit * truth + (READ * unit) ** 2)
    error = np.abs(_values(run.result) - truth)[bench.hot]
    mended = float(np.mean(error <= 3 * deviation[bench.hot]))
    return f"{mended:.1%} mended, {np.mean(error > 0.1):.1%} still > 0.1 off", mended >= 0.99


def excess_left(bench: Bench, run: Run) -> Found:
    """Share of the light of warm sites that stays, against the run without them; the noise is the same."""
    if run.result is None or run.frame is None or bench.plain.frame is None:
        return "refused", False
    assert bench.plain.result is not None
    excess = (_values(run.frame) - _values(bench.plain.frame)) * bench.ratio
    change = _values(run.result) - _values(bench.plain.result)
    warm = excess > 0
    left = float(change[warm].sum() / excess[warm].clip(max=1).sum())
    return f"{left:.1%} stays, {bench.psnr(run):.2f} dB", abs(left) < 0.1


def offsets_left(bench: Bench, run: Run, axis: int) -> Found:
    """Slope of the error's row means (axis 1; 0: columns) against the offsets that the capture has."""
    if run.result is None or run.frame is None:
        return "refused", False
    truth = bench.expected(run)
    drawn = (_values(run.frame) * bench.ratio - truth).mean(axis=axis)
    error = (_values(run.result) - truth).mean(axis=axis)
    left = float(np.polyfit(drawn, error, 1)[0])
    return f"{left:.1%} stays, {bench.psnr(run):.2f} dB", abs(left) < 0.1


def metadata(bench: Bench, run: Run, field: str, value: Any = None) -> Found:
    """A field of the metadata: as given, else as in the plain file."""
    if run.frame is None or bench.plain.frame is None:
        return "refused", False
    found = getattr(run.frame.metadata, field)
    wanted = getattr(bench.plain.frame.metadata, field) if value is None else value
    same = found is not None and bool(np.allclose(found, wanted, rtol=0.03))
    return f"{field} {found}, for {wanted}", same


def kept(bench: Bench, run: Run, wanted: dict[str, int], aspect: float) -> Found:
    """Which tags of the file its DNG still has; and the shape of a picture made of it, which has to obey them."""
    if run.result is None:
        return "refused", False
    before, after = _tags(run.source), _tags(run.output)
    left = [name for name, tag in wanted.items() if tag in after and after[tag] == before[tag]]
    picture = run.output.with_suffix(".png")
    _expose(run.source, picture, bench.ratio)
    with Image.open(picture) as image:
        obeyed = abs(image.width / image.height / aspect - 1) < 0.01
        size = f"{image.width}x{image.height}"
    return f"keeps {', '.join(left) or 'nothing'}; picture {size}", obeyed and len(left) == len(wanted)


CASES: dict[str, tuple[str, str, Measure]] = {  # file: version 0.1.0, wanted, how it is measured
    PLAIN: ("33.46 dB", "at least that", partial(as_good, least=33.46)),
    "c14_pat_BGGR": ("0.3 to 2.6 dB below", "within 0.05 dB of plain", partial(as_good, loss=0.05)),
    "c18_hot_pixels_30s": ("91 % stay > 0.1 off", "99 % mended", hot_sites),
    "c18c_warm_pixels": ("27-60 % stays", "mended", excess_left),
    "c20_row_noise3": ("40 % stays", "< 10 %", partial(offsets_left, axis=1)),
    "c20c_row_noise3_masked": ("40 % stays", "< 10 %", partial(offsets_left, axis=1)),
    "c20b_column_fpn3": ("40 % stays", "< 10 %", partial(offsets_left, axis=0)),
    "c02d_black_off_by_100": ("15 dB", "margin believed, said", partial(as_good, loss=0.5, word="black")),
    "c02e_iso128000_1024_vs_512": ("2 dB", "margin believed, said", partial(as_good, loss=0.5, word="black")),
    "c02i_margin_no_maskedareas_off_100": ("15 dB", "margin believed, said", partial(as_good, loss=0.5, word="black")),
    "c02g_black_0_no_masked": ("white, no word", "done, --black named", partial(said, word="--black", done=True)),
    "c01b_blackdelta_varying": ("averaged away", "subtracted", as_good),
    "c04_asshotwhitexy": ("ignored", "used", partial(metadata, field="as_shot_neutral")),
    "c11_gainmap_warp": ("dropped", "kept in our DNG", partial(kept, wanted=OPCODES, aspect=3 / 2)),
    "c12b_quad_labelled_rggb": ("20.9 dB, no word", "refused or binned, said", partial(said, word="quad")),
    "c13_mono_linearraw": (
        "already demosaiced",
        "refused as monochrome",
        partial(said, word="monochrome", not_word="already demosaiced", done=False),
    ),
    "c21e_iso_in_ifd0_only": ("none found", "found", partial(metadata, field="iso", value=1600.0)),
    "c22e_np_wrong_x100": ("25.2 dB", "estimate wins, said", partial(as_good, loss=0.1, word="noise ?profile")),
    "c24a_orientation_0": ("turned", "upright", partial(metadata, field="orientation", value=1)),
    "c26c_deflate16": ("damaged", "decoded or not supported", decoded),
    "c09_bigtiff": ("damaged", "decoded or not supported", decoded),
    "c09_strips_reversed": ("damaged", "decoded or not supported", decoded),
    "c10d_float32_nan": ("every value is zero", "mended", as_good),
    "c31_default_scale_2x": ("dropped", "kept, obeyed in pictures", partial(kept, wanted=DEFAULT_SCALE, aspect=3 / 4)),
    "c32_default_user_crop": ("dropped", "kept, obeyed in pictures", partial(kept, wanted=USER_CROP, aspect=9 / 8)),
}


def main(
    cases: Path, only: tuple[str, ...] = (), ratio: float = 30.0, messages: bool = False, output: Path | None = None
) -> None:
    """Run each case and print a table.

    Args:
        cases: folder of the files.
        only: beginnings of the names to run; none: all.
        ratio: amplification.
        messages: print what the command said of each, too.
        output: JSON file.
    """
    truth = torch.from_numpy(np.load(cases / "truth.npz")["rgb"].astype(np.float32)).permute(2, 0, 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        plain = run_case(cases / f"{PLAIN}.dng", Path(folder), ratio)
        bench = Bench(truth, np.load(cases / "hot_sites.npy"), ratio, plain)
        print("| file | 0.1.0 | wanted | now | reached |\n|---|---|---|---|---|")
        for name, (today, wanted, measure) in CASES.items():
            if only and not name.startswith(only):
                continue
            run = plain if name == PLAIN else run_case(cases / f"{name}.dng", Path(folder), ratio)
            text, reached = measure(bench, run)
            print(f"| {name} | {today} | {wanted} | {text} | {'yes' if reached else 'NO'} |", flush=True)
            if messages:
                print(f"    {run.said}", flush=True)
            rows.append({"file": name, "today": today, "wanted": wanted, "now": text, "reached": reached})
            rows[-1]["messages"] = run.said
    print(f"\n{sum(bool(row['reached']) for row in rows)} of {len(rows)} reached")
    if output is not None:
        output.write_text(json.dumps({"machine": machine(), "ratio": ratio, "cases": rows}, indent=1) + "\n")


def run_case(source: Path, folder: Path, ratio: float) -> Run:
    """A file through `expose enhance`, to a DNG at reference exposure."""
    output = folder / f"{source.stem}.dng"
    messages = _expose(source, output, ratio).replace(str(source), "FILE").replace(source.name, "FILE").strip()
    if not output.exists():
        return Run(source, messages, None, None, output)
    return Run(source, messages, read_raw(source), read_raw(output), output)


def _expose(source: Path, output: Path, ratio: float) -> str:
    """What the command says on stderr."""
    words = ["enhance", str(source), "-o", str(output), "--ratio", f"{ratio:g}", "--exposure", "reference"]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as stream:
        expose(words)
    return stream.getvalue()


def _values(frame: RawFrame) -> np.ndarray:
    return frame.sensor.normalise(frame.mosaic).double().numpy()


def _tags(path: Path) -> dict[int, object]:
    """All tags of the first directory and those below it; rational numbers as such."""
    with TiffFile(path) as file:
        pages = [file.pages[0], *(file.pages[0].pages or [])]
        return {tag.code: _quotients(tag) for page in pages for tag in page.tags}


def _quotients(tag: TiffTag) -> object:
    if tag.dtype != DATATYPE.RATIONAL:
        return tag.value
    return tuple(round(n / max(d, 1), 4) for n, d in zip(tag.value[::2], tag.value[1::2], strict=True))


if __name__ == "__main__":
    tyro.cli(main)
