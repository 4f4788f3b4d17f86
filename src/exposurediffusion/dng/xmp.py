"""The XMP of what is written: the photographer's ratings, captions and edits, and how the picture came about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from exposurediffusion.files.tiff import BYTE, Entry

XMP = 700
NAMESPACE = "urn:exposurediffusion:1.0:"
"""Of our properties: Program, Weights, Ratio, ..."""
_EMPTY = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
_END = "</rdf:RDF>"


def packet(source: Entry | None, history: Mapping[str, str] | None) -> Entry | None:
    """The XMP packet of a file that is written.

    Args:
        source: that of the file that the frame came from; one that is no XMP is left out.
        history: how the picture came about, names (CamelCase) to values; put in as properties of `NAMESPACE`.

    Returns:
        The source's packet as it stands, but for what is put in; None: there is nothing to say.
    """
    text = _sound(source)
    if not history:
        return source if text else None
    properties = "".join(f" exd:{name}={quoteattr(value)}" for name, value in history.items())
    about = re.search(r"rdf:about=(\"[^\"]*\"|'[^']*')", text or "")
    description = (
        f'<rdf:Description rdf:about={about[1] if about else chr(34) * 2} xmlns:exd="{NAMESPACE}"{properties}/>'
    )
    head, end, tail = (text if text and text.count(_END) == 1 else _EMPTY).rpartition(_END)
    return Entry(BYTE, f"{head}{description}\n{end}{tail}".encode())


def _sound(source: Entry | None) -> str | None:
    """A packet's text; None: it is no XML, or declares entities."""
    if source is None:
        return None
    try:
        text = source.data.rstrip(b"\0").decode()
        if "<!" in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL):
            return None  # entities can be made to explode
        ElementTree.fromstring(re.sub(r"<\?.*?\?>", "", text, flags=re.DOTALL).strip("\ufeff \r\n\t"))
    except (UnicodeDecodeError, ElementTree.ParseError):
        return None
    return text
