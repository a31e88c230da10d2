"""One live conversation: sending, awaiting, and its beginning and end."""
