"""The address of this machine, as others see it: the first that is not loopback.

It goes into ``x-forwarded-for`` in place of a client on loopback.  Only interfaces are looked at;
nothing is sent.
"""

import fcntl
import socket
import struct
from typing import Final

_SIOCGIFADDR: Final = 0x8915
"""Linux: the IPv4 address of an interface (netdevice(7))."""


def local_address(v6: bool = False) -> str:
    """Textual address; empty when there is none but loopback."""
    return _v6() if v6 else _v4()


def _v4() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    return ""


def _v6() -> str:
    try:
        with open("/proc/net/if_inet6") as table:
            for line in table:
                digits, _, _, scope, *_ = line.split()
                if scope == "00":
                    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    except OSError:
        pass
    return ""
