"""Who can read what travels: nobody off this machine. TLS, certificate and host name verified."""

from __future__ import annotations

import ssl
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_SECURE = frozenset({"https", "rediss"})


def travels_plain(url: str) -> bool:
    """Whether a well-formed URL's connection leaves this machine and is not TLS."""
    parts = urlsplit(url)
    return parts.scheme not in _SECURE and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name: no resolver is asked, since it may lie."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def names_tls_options(url: str) -> bool:
    """Whether a URL says in its query how TLS is to be done. It could turn off the verifying, and
    kombu and redis-py read it each in its own way."""
    return any(name.lower().startswith("ssl") for name, _ in parse_qsl(urlsplit(url).query))


def redis_tls(url: str, ca_file: str | None) -> dict[str, Any]:
    """What makes redis-py and kombu verify a server of a ``rediss://`` URL; empty for ``redis://``.

    kombu verifies nothing unless it is told to.
    """
    if urlsplit(url).scheme != "rediss":
        return {}
    options = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    return options if ca_file is None else {**options, "ssl_ca_certs": ca_file}
