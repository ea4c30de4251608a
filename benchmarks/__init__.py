"""Speed against a hand-written network, time to start, and what searches find."""
