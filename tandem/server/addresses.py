"""Which addresses are this machine's own."""

from __future__ import annotations

import contextlib
import ipaddress


def own_machine(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
