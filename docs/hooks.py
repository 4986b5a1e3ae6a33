"""What MkDocs calls: the home page is the README, a click on a picture shows it whole, and no page may fetch anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parents[1] / "README.md"
FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]* (?:src|href)=[\"']?(?:https?:)?//[^ >]*")
PICTURE = re.compile(r'<img [^>]*src="([^"]+)"[^>]*>')


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Take the README, whose links are relative to the repository, as the home page."""
    if page.file.src_uri != "index.md":
        return markdown
    return README.read_text(encoding="utf-8").replace("](docs/", "](")


def on_page_content(html: str, **_: Any) -> str:
    """Link each picture to its file."""
    return PICTURE.sub(r'<a href="\1">\g<0></a>', html)


def on_post_page(output: str, **_: Any) -> str:
    """A page as it is written.

    Raises:
        ValueError: Opening it would fetch something from another host.
    """
    fetched = FETCHED.findall(output)
    if fetched:
        raise ValueError(f"a page of the documentation fetches {', '.join(fetched)}; keep a copy in docs/ instead")
    return output
