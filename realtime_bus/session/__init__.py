"""One live conversation."""
