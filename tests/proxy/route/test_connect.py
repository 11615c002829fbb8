"""What routes say of CONNECT and upgrades."""

import pytest

from weft.proxy.address import Address
from weft.proxy.route.connect import ConnectSettings

HERE, THERE = Address("10.0.0.1", 80), Address("10.0.0.2", 4321)


@pytest.mark.parametrize(
    ("method", "post", "here"),
    [(b"CONNECT", False, True), (b"POST", False, False), (b"POST", True, True), (b"GET", True, False)],
)
def test_what_ends_here(method, post, here):
    assert ConnectSettings(allow_post=post).ends_here(method) is here


@pytest.mark.parametrize(
    ("version", "remote", "preface"),
    [
        (0, THERE, b""),
        (1, THERE, b"PROXY TCP4 10.0.0.2 10.0.0.1 4321 80\r\n"),
        (2, THERE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\2\x0a\0\0\1\x10\xe1\0\x50"),
        (1, Address(path="/run/x"), b""),
    ],
)
def test_what_a_host_hears_first(version, remote, preface):
    assert ConnectSettings(proxy_protocol=version).preface(remote, HERE) == preface
