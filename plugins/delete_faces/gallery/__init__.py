"""Galleries and models of face systems: alignment, enrolment, import, identification."""
