"""For mkdocs: links to files outside of docs/, which work in the repository, become plain text on the site."""

import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Of each page; one in a folder has its own way up."""
    ups = page.file.src_uri.count("/") + 1
    return re.sub(rf"\[([^\]]+)\]\((?:\.\./){{{ups},}}[^)]*\)", r"\1", markdown)
