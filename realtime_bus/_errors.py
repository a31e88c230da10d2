"""Passing: until every room imports `realtime_bus.errors`."""

from realtime_bus.errors import *  # noqa: F403
from realtime_bus.errors import RegistrationError as RegistrationError
