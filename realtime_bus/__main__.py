"""``python -m realtime_bus``: the ``realtime-bus`` command."""

from realtime_bus.cli import main

if __name__ == "__main__":
    main()
