"""Binding: real sockets."""

import os
import socket
import stat

import pytest

from weft.proxy.address import Address
from weft.proxy.listener.addresses import BOUND, LISTENING, PREBIND, ListenAddress, SocketOption
from weft.proxy.listener.settings import ListenerSettings
from weft.proxy.listener.sockets import BindError, bind, for_worker


def settings(*addresses, **fields):
    return ListenerSettings(
        name="l", addresses=addresses or (ListenAddress(address=Address("127.0.0.1", 0)),), **fields
    )


@pytest.fixture
def bound(request):
    sockets = []

    def make(made, count=1):
        sockets.extend(bind(made, count))
        return sockets

    yield make
    for sock in sockets:
        sock.close()


def test_each_worker_has_a_socket_of_the_same_port(bound):
    made = settings()
    sockets = bound(made, 3)

    assert len({sock.getsockname() for sock in sockets}) == 1
    assert [for_worker(made, sockets, i) for i in range(3)] == [[sock] for sock in sockets]
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in sockets)
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in sockets)


def test_one_socket_may_be_shared(bound):
    made = settings(reuse_port=False)
    sockets = bound(made, 3)

    assert len(sockets) == 1
    assert for_worker(made, sockets, 2) == sockets
    assert not sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_every_address_has_sockets(bound):
    made = settings(
        ListenAddress(address=Address("127.0.0.1", 0)), ListenAddress(address=Address("127.0.0.2", 0))
    )
    sockets = bound(made, 2)

    names = [[sock.getsockname() for sock in for_worker(made, sockets, i)] for i in range(2)]
    assert names[0] == names[1]
    assert [name[0] for name in names[0]] == ["127.0.0.1", "127.0.0.2"]


def test_a_virtual_listener_has_none(bound):
    assert bound(settings(bind_to_port=False), 2) == []


@pytest.mark.parametrize("compat", [True, False])
def test_v6_takes_v4_only_when_told(bound, compat):
    (sock,) = bound(settings(ListenAddress(address=Address("::", 0), ipv4_compat=compat)))
    port = sock.getsockname()[1]
    client = socket.socket()
    try:
        assert (client.connect_ex(("127.0.0.1", port)) == 0) == compat
    finally:
        client.close()


def test_unix_sockets_replace_what_was_left_and_have_a_mode(bound, tmp_path):
    path = str(tmp_path / "x.sock")
    made = settings(ListenAddress(address=Address(path=path), mode=0o610), reuse_port=False)
    bind(made, 1)[0].close()  # left behind
    bound(made)

    assert stat.S_IMODE(os.stat(path).st_mode) == 0o610
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_abstract_sockets(bound):
    name = f"weft-test-{os.getpid()}"
    (sock,) = bound(settings(ListenAddress(address=Address(path="@" + name)), reuse_port=False))

    assert sock.getsockname() == b"\0" + name.encode()


def test_options_are_set_in_their_state(bound, monkeypatch):
    order = []

    class Recording(socket.socket):
        def setsockopt(self, level, name, value):
            order.append((level, name, value))
            super().setsockopt(level, name, value)

        def bind(self, address):
            order.append("bind")
            super().bind(address)

        def listen(self, backlog):
            order.append(("listen", backlog))
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Recording)

    def keepalive(state, value):
        return SocketOption(level=socket.SOL_SOCKET, name=socket.SO_KEEPALIVE, value=value, state=state)

    options = (keepalive(LISTENING, 1), keepalive(PREBIND, 0), keepalive(BOUND, b"\1\0\0\0"))
    bound(settings(socket_options=options, backlog=7, tcp_fast_open=5, reuse_port=False))

    mine = [
        entry
        for entry in order
        if isinstance(entry, str)
        or entry[0] == "listen"
        or entry[1] in (socket.SO_KEEPALIVE, socket.TCP_FASTOPEN)
    ]
    one, zero = b"\1\0\0\0", b"\0\0\0\0"
    assert mine == [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, zero),
        "bind",
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, one),
        (socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5),
        ("listen", 7),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, one),
    ]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        pytest.param(settings(ListenAddress(address=Address("192.0.2.1", 80))), "cannot bind '192.0.2.1:80': Cannot assign requested address", id="foreign"),
        pytest.param(settings(ListenAddress(address=Address(path="/nonexistent/x")), reuse_port=False), "cannot bind '/nonexistent/x': No such file or directory", id="no-directory"),
        pytest.param(
            settings(socket_options=(SocketOption(level=99, name=2222, value=1),)), "cannot set the options of '127.0.0.1:0': ", id="option",
        ),
    ],
)  # fmt: skip
def test_failures_say_what_and_why(made, text):
    with pytest.raises(BindError) as failed:
        bind(made, 1)

    assert str(failed.value).startswith("listener 'l': " + text)


def test_an_address_in_use_leaves_nothing_open(bound):
    (sock,) = bound(settings(reuse_port=False))
    port = sock.getsockname()[1]
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BindError, match="Address already in use"):
        bind(
            settings(
                ListenAddress(address=Address("127.0.0.2", 0)),
                ListenAddress(address=Address("127.0.0.1", port)),
                reuse_port=False,
            ),
            1,
        )
    assert len(os.listdir("/proc/self/fd")) == open_before
