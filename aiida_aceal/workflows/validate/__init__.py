"""Properties of a potential against its reference."""
