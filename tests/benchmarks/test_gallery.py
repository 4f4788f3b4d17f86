import re
from dataclasses import replace
from pathlib import Path

import gallery
import pytest
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"


def test_a_scene_is_taken_enhanced_and_shown(tmp_path, monkeypatch):
    cat = next(scene for scene in gallery.SCENES if scene.source == "chelsea")
    monkeypatch.setattr(gallery, "SCENES", (replace(cat, verdict="As before."),))
    gallery.main(tmp_path, tmp_path)
    page = (tmp_path / "gallery.md").read_text()
    before, after = (float(text) for text in re.findall(r"\*\*([\d.]+) dB", page))
    assert after > before + 4  # it is enhanced, not copied
    assert "expose enhance cat.dng --ratio 8" in page
    assert "As before." in page
    assert Image.open(tmp_path / "gallery/cat.jpg").size == (976, 300 + 8 + 260)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"has no immich_japanese-shop\.jpg"):
        gallery.main(tmp_path, tmp_path)


def test_the_page_in_the_documentation_is_whole_and_light():
    page = (DOCS / "gallery.md").read_text()
    shown = re.findall(r"\(gallery/(\w+)\.jpg\)", page)
    assert shown == [scene.name for scene in gallery.SCENES]
    assert all(scene.verdict in page and scene.credit in page for scene in gallery.SCENES)
    assert sum((DOCS / f"gallery/{name}.jpg").stat().st_size for name in shown) < 1_500_000
