"""Registration, routing and running of handlers."""
