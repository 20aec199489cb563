"""Who holds a port, and which one is taken instead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from voicectl.cli.system import ports

pytestmark = pytest.mark.process


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_the_error_names_the_process_that_is_in_the_way() -> None:
    code = "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1],flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        try:
            with pytest.raises(ports.PortTaken) as caught:
                ports.require(port, "VOICE_HTTP_PORT", lambda pid: False)
        finally:
            other.kill()

    assert caught.value.code == 5
    assert f"port {port} is held by pid {other.pid}" in caught.value.text
    assert "socket.create_server" in str(caught.value.owner)
    assert f"VOICE_HTTP_PORT={port + 1} voicectl up" in caught.value.remedy


def test_a_port_that_we_hold_or_nobody_holds_is_fine(listener: int) -> None:
    ports.require(listener, "VOICE_HTTP_PORT", lambda pid: pid == os.getpid())
    ports.require(ports.free(17_000), "VOICE_HTTP_PORT", lambda pid: False)


def test_a_free_port_is_the_preferred_one_or_a_near_one(listener: int) -> None:
    port = ports.free(listener, taken=[listener + 1])

    assert port not in (listener, listener + 1)
    assert ports.owner(port) is None


def test_udp_and_tcp_are_different_ports() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]

        held = ports.owner(port, udp=True)

        assert held is not None
        assert held.pid == os.getpid()
        assert ports.free(port, udp=True) != port
        assert ports.owner(port) is None
