"""The test kit: real insides, fake edges.

The proxy touches the world through its event loop alone.  :mod:`weft.testing.loop` is a loop whose
clock jumps and whose network is in memory, so that an hour of life takes a moment and is the same
every time for one seed.  :mod:`weft.testing.peer` plays clients and upstreams byte by byte on any
loop; :mod:`weft.testing.play` drives one HTTP filter; :mod:`weft.testing.proxy` runs a whole worker
from a configuration.
"""

from weft.testing.loop import Deadlock, Leak, VirtualLoop, run

__all__ = ["Deadlock", "Leak", "VirtualLoop", "run"]
