"""Docstrings as the pages of the API show them: griffe knows ``Examples:``, and Markdown no roles."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|data|meth|mod|attr):`~?")  # of reStructuredText


class Docstrings(griffe.Extension):
    """An extension of griffe, see mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with each object, before its docstring is read."""
        if obj.docstring is not None:
            words = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
            obj.docstring.value = ROLE.sub("`", words)
