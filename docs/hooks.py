"""What MkDocs calls: no page may fetch anything."""

from __future__ import annotations

import re
from typing import Any

FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]* (?:src|href)=[\"']?(?:https?:)?//[^ >]*")


def on_post_page(output: str, **_: Any) -> str:
    """A page as it is written.

    Raises:
        ValueError: Opening it would fetch something from another host.
    """
    fetched = FETCHED.findall(output)
    if fetched:
        raise ValueError(f"a page of the documentation fetches {', '.join(fetched)}; keep a copy in docs/ instead")
    return output
