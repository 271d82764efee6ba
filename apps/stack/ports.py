"""Who holds a TCP port."""

from __future__ import annotations

import errno
import socket

import psutil


def refusal(host: str, port: int) -> str | None:
    """Say in words why a server could not listen there; None if it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as link:
        # As the web server does: connections of an earlier run that linger don't count.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            link.bind((host.strip("[]"), port))
            link.listen(1)
        except PermissionError:
            return "ports below 1024 are for root"
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return f"taken by {holder(port)}"
            return f"{host}: {exc.strerror or exc}"
    return None


def free_port_after(host: str, port: int) -> int | None:
    """Return the next port up that is free, if one of the next hundred is."""
    ports = range(port + 1, min(port + 101, 65536))
    return next((candidate for candidate in ports if refusal(host, candidate) is None), None)


def holder(port: int) -> str:
    """Name the process that listens on a port: `nginx (pid 12)`, or `another program` if we may not know."""
    try:
        links = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "another program"
    for link in links:
        if (
            link.status == psutil.CONN_LISTEN
            and link.laddr
            and link.laddr.port == port
            and link.pid
        ):
            try:
                return f"{psutil.Process(link.pid).name()} (pid {link.pid})"
            except psutil.Error:
                return f"pid {link.pid}"
    return "another program"
