"""`expose info`: all that is said of a frame's noise, side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.cli.info import describe_sources
from exposurediffusion.cli.main import main
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import plan
from exposurediffusion.physics.cameras.figures import profile_of_figures
from exposurediffusion.physics.sensor import MaskedArea, RawFrame
from tests.frames import capture


def bright() -> RawFrame:
    """Large and light enough to show its noise, that of a Sony at ISO 800."""
    return capture(rows=192, columns=192, ratio=5.0)


def test_masked_sites_are_a_source_beside_the_others(tiny_model) -> None:
    masked = MaskedArea(np.random.default_rng(0).normal(2, 5, (384, 40)).astype(np.float32), 0, -40)
    frame = replace(bright(), optical_black=(masked,))
    *sources, margins = describe_sources(frame, plan(frame, tiny_model, EnhanceOptions()))
    assert [source["used"] for source in sources] == [True, False]
    assert sources[0]["source"].startswith("profile SonyA7S2 at ISO 800")
    assert sources[0]["factor"] == pytest.approx(1, abs=0.5)
    assert sources[1]["gain"] == pytest.approx(sources[0]["gain"], rel=0.5)
    assert margins["source"].endswith(" masked sites")
    assert margins["gain"] is None
    assert margins["read_noise"] == pytest.approx(5, rel=0.05)
    assert margins["black_level_error"] == pytest.approx(2, abs=0.2)
    assert (
        describe_sources(replace(frame, optical_black=()), plan(frame, tiny_model, EnhanceOptions(gain=1, read=1)))
        == []
    )


def test_sources_that_the_frame_contradicts_are_shown_and_said(tmp_path: Path, tiny_weights, capsys) -> None:
    frame = bright()
    odd = write_dng(tmp_path / "odd.dng", replace(frame, metadata=replace(frame.metadata, iso=12800.0)))
    assert main(["info", str(odd), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["results"]
    profile, estimate = told["noise_sources"]
    assert "SonyA7S2" in profile["source"]
    assert profile["factor"] > 3
    assert (profile["agrees"], profile["used"]) == (False, False)
    assert (estimate["factor"], estimate["agrees"], estimate["used"]) == (1, True, True)
    assert any(str(fact).startswith("what is said of its noise disagrees") for fact in told.values())
    assert main(["info", str(odd)]) == 0
    out = capsys.readouterr().out
    assert out.count(", contradicted") == out.count(", used") == 1
    assert "extrapolated: it is calibrated from ISO 100 to 6400" in out
    single = tmp_path / "single.json"
    single.write_text(profile_of_figures("Mine", [(800, 0.5, 2.1)]).to_json())
    assert main(["info", str(odd), "--camera", str(single)]) == 0
    assert "extrapolated: it is calibrated at ISO 800" in capsys.readouterr().out
    options = ["-o", str(tmp_path / "x.jpg"), "--ratio", "50", "--weights", str(tiny_weights)]
    assert main(["enhance", str(odd), *options]) == 0
    err = capsys.readouterr().err
    assert "what is said of its noise disagrees" in err
    assert "extrapolated" in err
