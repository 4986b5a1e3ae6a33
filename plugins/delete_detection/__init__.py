"""Detectors: the location is an anchor, a proposal or a query."""

from .erase import erase_detector as erase_detector
