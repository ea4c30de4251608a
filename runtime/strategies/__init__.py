"""Searches: each takes a space to a smaller one. One file each."""
