"""Erasure record: what was requested, done and measured, and what anyone can check again.

A plugin's command has the options of :func:`delete_tasks.cli.options.record_panel`, puts :func:`record_options` into its config
as ``record`` before it writes anything, and calls :func:`write_record` once, when all else is written. The :class:`Verdict` that
it returns has the exit status.
"""

from .figures import Verdict
from .options import check_record_options, record_options
from .write import write_record

__all__ = [
    "Verdict",
    "check_record_options",
    "record_options",
    "write_record",
]
