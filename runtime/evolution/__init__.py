"""Search by evaluations: what is tried next, where it is written down, and what it is worth."""
