import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from exposurediffusion.rendering.comparison import write_comparison
from exposurediffusion.rendering.render import render
from tests.frames import capture


def test_the_page_holds_both_pictures_and_needs_no_network(tmp_path):
    before, after = render(capture()), render(capture(), exposure=5)
    page = write_comparison(tmp_path / "x.html", "a <b> & c", before, after).read_text()
    assert "a &lt;b&gt; &amp; c" in page
    assert "http" not in page
    pictures = [Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r"base64,([\w+/=]+)", page)]
    for picture, shown in zip(pictures, (before, after), strict=True):
        assert abs(np.asarray(picture).astype(float) - shown.rgb8).mean() < 6


def test_pictures_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="over one another"):
        write_comparison(tmp_path / "x.html", "", render(capture()), render(capture(), quick=True))
    assert not list(tmp_path.iterdir())
