"""Plugins for realtime-bus: each module is one, imported by its own name."""
