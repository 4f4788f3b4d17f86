"""Small pictures of raw files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exposurediffusion.decoding.process import Answer
from exposurediffusion.web import thumbnails


@pytest.mark.parametrize(
    "picture",
    [np.zeros((1, 1, 1), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16)],
    ids=lambda picture: f"{picture.shape} {picture.dtype}",
)
def test_what_is_no_picture_gives_way_to_the_capture(
    picture: np.ndarray, dark_dng: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LibRaw finds such in damaged files: a bitmap of one channel."""
    monkeypatch.setattr(thumbnails, "decode", lambda *arguments: Answer(1, [picture], ""))
    shown = Image.open(io.BytesIO(thumbnails.thumbnail(dark_dng)))
    assert max(shown.size) <= thumbnails.LONGEST
    assert np.asarray(shown).std() > 1
