"""JSON as Envoy writes it into logs: sorted keys, shortest numbers, nothing that breaks a line.

Whole numbers of the proxy itself (``int``) are written as digits; a ``float`` is written the
shortest way that reads back the same (``1e+05``, ``0.1``), as protobuf's doubles are there.
"""

from typing import Any

import orjson


def json_string(raw: bytes) -> bytes:
    """``raw`` as a JSON string, quotes included.

    What is not UTF-8 has every byte that is not plain ASCII written as ``\\u00NN``: the line stays
    valid JSON, and the bytes can be read back.
    """
    try:
        return orjson.dumps(raw.decode())
    except UnicodeDecodeError:
        return b'"' + b"".join([_byte(byte) for byte in raw]) + b'"'


def _byte(byte: int) -> bytes:
    plain = 0x20 <= byte < 0x7F and byte not in (0x22, 0x5C)
    return bytes([byte]) if plain else b"\\u%04x" % byte


def json_number(number: float) -> bytes:
    """The shortest text that reads back as ``number``; of equally short ones the plain one."""
    if number != number or number in (float("inf"), float("-inf")):
        return b"null"
    digits = repr(number)
    mantissa, mark, exponent = digits.partition("e")
    negative = mantissa.startswith("-")
    mantissa = mantissa.lstrip("-")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    significant = (whole + fraction).lstrip("0")
    point = len(whole) + (int(exponent) if mark else 0)
    if not significant:
        return b"-0" if negative else b"0"
    point -= len(whole + fraction) - len(significant)  # leading zeros are not digits
    significant = significant.rstrip("0")
    if point >= len(significant):
        plain = str(int(abs(number)))
    elif point > 0:
        plain = f"{significant[:point]}.{significant[point:]}"
    else:
        plain = "0." + "0" * -point + significant
    power = point - 1
    scientific = significant[0] + ("." + significant[1:] if len(significant) > 1 else "")
    scientific += f"e{'-' if power < 0 else '+'}{abs(power):02d}"
    text = plain if len(plain) <= len(scientific) else scientific
    return (b"-" if negative else b"") + text.encode()


def json_bytes(value: Any) -> bytes:
    """A plain value (None, bool, int, float, str, bytes, list, dict) as JSON with sorted keys."""
    if isinstance(value, bytes):
        return json_string(value)
    if isinstance(value, str):
        return json_string(value.encode("utf-8", "surrogatepass"))
    if value is None:
        return b"null"
    if value is True:
        return b"true"
    if value is False:
        return b"false"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, dict):
        items = sorted((str(key), item) for key, item in value.items()) if value else []
        return b"{" + b",".join([json_bytes(key) + b":" + json_bytes(item) for key, item in items]) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join([json_bytes(item) for item in value]) + b"]"
    return json_string(str(value).encode())
