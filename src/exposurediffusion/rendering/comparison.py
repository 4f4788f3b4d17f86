"""Before and after in one HTML page: two pictures under a slider, at 100 %, for any browser, without a network."""

from __future__ import annotations

import base64
import io
import os
from html import escape
from pathlib import Path

from PIL import Image

from exposurediffusion.files.atomic import atomic
from exposurediffusion.rendering.render import Rendering

_QUALITY = 92
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ margin: 0; background: #222; color: #ddd; font: 16px sans-serif; }}
header {{ position: sticky; top: 0; left: 0; width: 100vw; box-sizing: border-box; padding: .5em 1em; background: #222;
  display: flex; gap: 1em; align-items: center; z-index: 1; }}
input {{ flex: 1; }}
main {{ position: relative; width: {width}px; height: {height}px; }}
main.fit {{ width: 100vw; height: calc(100vw * {height} / {width}); }}
img {{ position: absolute; width: 100%; height: 100%; }}
#after {{ clip-path: inset(0 0 0 var(--at, 50%)); }}
#line {{ position: absolute; top: 0; bottom: 0; left: var(--at, 50%); width: 2px; background: #fff; }}
</style></head>
<body><header><label for="at">before</label><input id="at" type="range" min="0" max="100" step="0.1" value="50"
 aria-label="how much of the capture is shown, from the left"><span>after</span>
<button id="fit" type="button">fit / 100 %</button></header>
<main id="pictures"><img alt="the capture, amplified" src="{before}"><img id="after" alt="the result" src="{after}">
<div id="line"></div></main>
<script>
const pictures = document.getElementById("pictures"), at = document.getElementById("at");
at.oninput = () => pictures.style.setProperty("--at", at.value + "%");
document.getElementById("fit").onclick = () => pictures.classList.toggle("fit");
let held = false;
const follow = event => {{ if (held) {{ const box = pictures.getBoundingClientRect();
  at.value = 100 * (event.clientX - box.left) / box.width; at.oninput(); }} }};
pictures.onpointerdown = event => {{ held = true; follow(event); event.preventDefault(); }};
onpointermove = follow; onpointerup = () => held = false;
</script></body></html>
"""


def write_comparison(path: str | os.PathLike[str], title: str, before: Rendering, after: Rendering) -> Path:
    """Write the page.

    Args:
        path: ends in .html.
        title: of the page.
        before, after: pictures of one size.

    Raises:
        ValueError: pictures of two sizes.
        OSError: the file cannot be written (nothing is left behind).
    """
    height, width = after.rgb.shape[:2]
    if before.rgb.shape != after.rgb.shape:
        raise ValueError(f"pictures of {before.rgb.shape} and {after.rgb.shape} cannot be laid over one another")
    page = _PAGE.format(title=escape(title), width=width, height=height, before=_url(before), after=_url(after))
    with atomic(path) as stream:
        stream.write(page.encode())
    return Path(path)


def _url(picture: Rendering) -> str:
    out = io.BytesIO()
    Image.fromarray(picture.rgb8).save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getbuffer()).decode()
