"""Syntax becomes the bound tree: what the names alone tell. Every mistake of a name is told, also where the current
parameters don't lead; nothing is evaluated."""
