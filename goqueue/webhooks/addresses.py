"""Addresses that may be called: those of the public internet, and of networks that the settings allow."""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "ADDRESS_REFUSED",
    "NUMERIC_HOST",
    "IPAddress",
    "allow_global",
    "is_address",
    "is_global_unicast",
    "is_refused",
    "look_up",
    "unwrap",
]

#: Says why nothing is sent to a receiver.
ADDRESS_REFUSED = "the receiver's address is not global, and GOQUEUE_WEBHOOK_ALLOW_NETWORKS does not allow it"

# WHATWG URL, "ends in a number": a host whose last label looks like this is an IPv4 address to `inet_aton`.
NUMERIC_HOST = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$")

GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Not global, although the `ipaddress` of Python 3.11 says so or says nothing.
NOT_GLOBAL = (
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relay anycast, RFC 7526
    ipaddress.ip_network("3fff::/20"),  # documentation, RFC 9637
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: For so long a name is looked up whose receiver is only about to be subscribed.
LOOK_SECONDS = 3.0


def allow_global(allow_networks: Iterable[str] = ()) -> Callable[[IPAddress], bool]:
    """Make the rule that allows global unicast addresses, and those of `allow_networks`."""
    networks = [ipaddress.ip_network(network) for network in allow_networks]

    def allow(address: IPAddress) -> bool:
        inner = unwrap(address)
        return is_global_unicast(inner) or any(inner in network or address in network for network in networks)

    return allow


def is_global_unicast(address: IPAddress) -> bool:
    """Tell whether an address is one machine of the public internet; stricter than `is_global` of 3.11."""
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST_V6:
        return False
    return address.is_global and not address.is_multicast and not any(address in net for net in NOT_GLOBAL)


def unwrap(address: IPAddress) -> IPAddress:
    """Return the IPv4 address inside an IPv4-mapped, 6to4 (RFC 3056) or NAT64 (RFC 6052) one, else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address in its usual notation."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def look_up(host: str, seconds: float) -> list[str]:
    """Return the addresses of a host name, asked for in a thread: `getaddrinfo` knows no timeout.

    Raises:
        TimeoutError: no answer came in time.
        OSError, UnicodeError: there is no such name.
    """
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve-host", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return list(dict.fromkeys(entry[4][0] for entry in found))


def is_refused(host: str, allow_networks: Iterable[str]) -> bool:
    """Tell whether a host is an address that may not be called, or has one now.

    It is told before the first call, to whoever gives the URL. What protects is the check of the call
    itself: a name may lead elsewhere by then. One that leads nowhere now is not refused.
    """
    if is_address(host):
        addresses = [host]
    elif NUMERIC_HOST.search(host):
        return True
    else:
        try:
            addresses = look_up(host, LOOK_SECONDS)
        except (OSError, UnicodeError):
            return False
    allow = allow_global(allow_networks)
    return not all(allow(ipaddress.ip_address(address)) for address in addresses)
