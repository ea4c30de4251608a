"""Pictures of spaces and architectures."""
