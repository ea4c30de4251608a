"""What can be wrong with a network that is to be exported."""


class ExportError(ValueError):
    """The network cannot be written out; the message says why and what to do, in the user's words."""
