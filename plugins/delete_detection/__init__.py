"""Detectors: the location is an anchor, a proposal or a query."""
