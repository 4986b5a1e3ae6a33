"""Erasure record: a verifiable account of a request, a run and its figures.

A plugin's command takes the options of :func:`delete_tasks.cli.options.record_panel`, sets ``record`` of its config to
:func:`delete_tasks.report.record.options.record_options` before it writes anything, and ends with
:func:`delete_tasks.report.finish.report`, which writes the record.
"""
