import pytest

from weft.proxy.address import Address, CidrSet, is_private


@pytest.mark.parametrize(
    ("sockname", "text", "ip", "v6"),
    [
        (("1.2.3.4", 80), "1.2.3.4:80", "1.2.3.4", False),
        (("::1", 80, 0, 0), "[::1]:80", "::1", True),
        (("::ffff:1.2.3.4", 80, 0, 0), "1.2.3.4:80", "1.2.3.4", False),
        ("/run/x.sock", "/run/x.sock", "", False),
        (b"\0name", "@name", "", False),
        (b"/run/y", "/run/y", "", False),
        ("", "", "", False),
        (None, "", "", False),
    ],
)
def test_from_a_socket(sockname, text, ip, v6):
    address = Address.of(sockname)
    assert (address.text, address.ip, address.is_ip, address.is_v6) == (text, ip, bool(ip), v6)
    assert address == Address.of(sockname)
    assert hash(address) == hash(Address.of(sockname))
    assert address != text


@pytest.mark.parametrize(
    ("ip", "private"),
    [("10.0.0.1", True), ("11.0.0.1", False), ("172.31.255.255", True), ("172.32.0.0", False), ("192.168.1.1", True),
     ("127.9.9.9", True), ("::1", True), ("fd00::1", True), ("fe80::1", False), ("2001:db8::1", False), ("", False), ("x", False)],
)  # fmt: skip
def test_private(ip, private):
    assert is_private(ip) is private


def test_cidr_sets():
    nets = CidrSet(["10.1.0.0/16", "10.2.3.4/32", "192.168.0.0/255.255.0.0", "fd00::/8", "0.0.0.0/32"])
    inside = ["10.1.2.3", "10.2.3.4", "192.168.9.9", "fd12::1", "0.0.0.0"]
    outside = ["10.2.3.5", "10.0.255.255", "fe80::1", "", "x", "10.1.2", "999.1.1.1", None, 5.5]
    assert [ip in nets for ip in inside] == [True] * len(inside)
    assert [ip in nets for ip in outside] == [False] * len(outside)
    assert "1.2.3.4" in CidrSet(["0.0.0.0/0"])
    assert "::1" not in CidrSet(["0.0.0.0/0"])
    assert "1.2.3.4" not in CidrSet([])
