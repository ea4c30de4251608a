"""Numbers that are taken where a user says none."""

SCORE = 0.3
"""Below it a detection is not told, and a joint counts as hidden."""
MOST_CLASSES = 5
"""Classes that are listed of an image."""
PICTURES = 6
"""Architectures that a report draws."""
