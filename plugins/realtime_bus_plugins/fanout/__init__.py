"""More than one process: the same decorators in workers elsewhere, over NATS JetStream."""

from realtime_bus.feed import Redelivery

from ._broker import StreamSettings
from ._fanout import FanoutOverflow, FanoutStatistics, NatsFanout
from ._fleet import Fleet, Followed, Held
from ._part import EventsMissing
from ._remote_bus import RemoteBus, RemoteBusStatistics
from ._remote_session import Arrival, RemoteSession
from ._wire import BrokerUnreachable, Holder, HolderLost, SessionGone, Whereabouts

__all__ = [
    "Arrival",
    "BrokerUnreachable",
    "EventsMissing",
    "FanoutOverflow",
    "FanoutStatistics",
    "Fleet",
    "Followed",
    "Held",
    "Holder",
    "HolderLost",
    "NatsFanout",
    "Redelivery",
    "RemoteBus",
    "RemoteBusStatistics",
    "RemoteSession",
    "SessionGone",
    "StreamSettings",
    "Whereabouts",
]
