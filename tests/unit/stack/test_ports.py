from __future__ import annotations

import os
import socket

from apps.stack import ports


def test_it_names_who_holds_a_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refusal = ports.refusal("127.0.0.1", port)
        assert refusal is not None
        assert f"pid {os.getpid()}" in refusal
        assert ports.free_port_after("127.0.0.1", port) != port
    assert ports.refusal("127.0.0.1", port) is None


def test_it_says_that_an_address_is_not_of_this_machine():
    refusal = ports.refusal("192.0.2.1", 5555)
    assert refusal is not None
    assert refusal.startswith("192.0.2.1: ")
