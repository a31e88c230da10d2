"""``python -m realtime_bus.cli``."""

from . import main

main()
