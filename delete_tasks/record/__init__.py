"""The erasure record: what was asked, what was done, what was measured, and what anyone can check again.

A plugin's command adds :func:`add_record_arguments` to its parser, puts :func:`record_options` into its config as ``record``
and calls :func:`write_record` once, when all else is written.
"""

from .options import add_record_arguments, record_options
from .parts import Figure, Look, RecordParts
from .write import write_record

__all__ = ["Figure", "Look", "RecordParts", "add_record_arguments", "record_options", "write_record"]
