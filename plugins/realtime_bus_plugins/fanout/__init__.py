"""More than one process: the same decorators in workers elsewhere, over NATS JetStream."""

from ._broker import StreamSettings
from ._fanout import FanoutOverflow, FanoutStatistics, NatsFanout
from ._wire import BrokerUnreachable, HolderLost, SessionGone

__all__ = [
    "BrokerUnreachable",
    "FanoutOverflow",
    "FanoutStatistics",
    "HolderLost",
    "NatsFanout",
    "SessionGone",
    "StreamSettings",
]
