"""Format strings: what every command gives, and what is refused with which words."""

import socket
from random import Random

import pytest

from weft.api.problems import Where
from weft.proxy.address import NOWHERE
from weft.proxy.observe import commands_http
from weft.proxy.observe.commands import printable
from weft.proxy.observe.commands_http import xfcc_value
from weft.proxy.observe.flags import DOWNSTREAM_PROTOCOL_ERROR, UPSTREAM_CONNECTION_FAILURE
from weft.proxy.observe.formatter import DEFAULT_FORMAT, compile_format


def compiled(text, **options):
    where = Where.nowhere()
    format = compile_format(text, where, **options)
    assert where.problems.items == [], text
    return format


@pytest.fixture
def render(info, clock):
    return lambda text, **options: compiled(text, **options).text(info, clock)


@pytest.mark.parametrize(("format", "line"), [
    pytest.param("", "", id="empty"),
    pytest.param("no commands\n", "no commands\n", id="literal"),
    pytest.param("100%% of %PROTOCOL%%%", "100% of HTTP/1.1%", id="percent-signs"),
    pytest.param("é%PROTOCOL()%", "éHTTP/1.1", id="empty-parentheses"),
    pytest.param("%ENVIRONMENT(a)b%PROTOCOL%c)% d", "- d", id="parameter-to-where-it-fits"),
    # headers
    pytest.param("%REQ(User-Agent)% %REQUEST_HEADER(user-agent):4%", "curl/8 curl", id="request-header"),
    pytest.param("%REQ(x-two)%|%REQ(x-empty)%|%REQ(x-none)%", "first||-", id="first-empty-and-missing"),
    pytest.param("%REQ(x-none?x-two)% %REQ(x-empty?x-two)%|", "first |", id="alternative"),
    pytest.param("%REQ(:METHOD)% %REQ(:path)% %REQ(:authority)% %REQ(host)% %REQ(:scheme)%",
                 "GET /books?id=7&q=%41%0a&flag&id=8 books.example:8080 books.example:8080 https", id="pseudo-headers"),
    pytest.param("%RESP(:status)% %RESP(X-Kind)% %RESPONSE_HEADER(no?x-kind):2%", "200 paper pa", id="response-header"),
    pytest.param("%TRAILER(x-sum)% %RESPONSE_TRAILER(nope)%", "abc -", id="trailer"),
    pytest.param("%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES% %RESPONSE_TRAILERS_BYTES%", "272 43 8", id="header-sizes"),
    # path and query
    pytest.param("%PATH% %PATH(NQ)% %PATH(WQ:PATH):4% %PATH(:ORIG)%", "/books?id=7&q=%41%0a&flag&id=8 /books /boo -", id="path"),
    pytest.param("%QUERY_PARAM(id)% %QUERY_PARAM(flag)%| %QUERY_PARAM(no)%", "7 | -", id="query-param"),
    pytest.param("%QUERY_PARAM(q)% %QUERY_PARAM(q):1%", "A\\x0a A", id="query-param-decoded-and-escaped"),
    pytest.param("%QUERY_PARAMS% %QUERY_PARAMS(ORIG):4% %QUERY_PARAMS(DECODED)%",
                 "id=7&q=%41%0a&flag&id=8 id=7 id=7&q=A%0a&flag&id=8", id="query-params"),
    # outcome
    pytest.param("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%",
                 "200 via_upstream via upstream", id="status"),
    pytest.param("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", "- -", id="no-flags"),
    pytest.param("%PROTOCOL% %UPSTREAM_PROTOCOL% %ROUTE_NAME% %ACCESS_LOG_TYPE%", "HTTP/1.1 HTTP/2 books DownstreamEnd", id="names"),
    pytest.param("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %ROUTE_RESOLUTION_COUNT%", "2 1", id="attempts"),
    pytest.param("[%CUSTOM_FLAGS%][%LOCAL_REPLY_BODY%]", "[][]", id="empty-facts"),
    pytest.param("%CONNECTION_TERMINATION_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON%", "- -", id="no-failures"),
    # bytes
    pytest.param("%BYTES_RECEIVED% %BYTES_SENT% %BYTES_RETRANSMITTED%", "3 100000 0", id="body-bytes"),
    pytest.param("%DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT% %UPSTREAM_WIRE_BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_SENT%",
                 "301 302 303 304", id="wire-bytes"),
    pytest.param("%DOWNSTREAM_HEADER_BYTES_RECEIVED% %DOWNSTREAM_HEADER_BYTES_SENT% %UPSTREAM_HEADER_BYTES_RECEIVED% %UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT%",
                 "201 202 203 204", id="header-bytes"),
    # ends
    pytest.param("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                 "[2001:db8:1:2::7]:0 0 2001:db8:1:2::7", id="remote"),
    pytest.param("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(32)% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT(12)%",
                 "2001:db8::/32 10.0.0.0/12", id="masked"),
    pytest.param("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(99)% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(x)% [%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(-1)%]",
                 "198.51.100.1/32 198.51.100.1 []", id="odd-masks"),
    pytest.param("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_DIRECT_LOCAL_PORT%",
                 "10.1.2.3:999 10.0.0.1:8443 443 8443", id="direct"),
    pytest.param("%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_PORT%", "203.0.113.5:80 10.0.0.1:5555 5555", id="upstream-ends"),
    pytest.param("%CONNECTION_ID% %UPSTREAM_CONNECTION_ID% %UPSTREAM_CONNECTION_IDS_ATTEMPTED% %FILTER_CHAIN_NAME%", "17 21 21 main-chain", id="connections"),
    pytest.param("%UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%", "books_alt books-v1", id="cluster"),
    pytest.param("%UPSTREAM_HOST% %UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%", "203.0.113.5:80 b1.books:80 b1.books", id="host"),
    pytest.param("%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%",
                 "203.0.113.4:80,203.0.113.5:80 203.0.113.4,b1.books", id="hosts-attempted"),
    # who
    pytest.param("%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(HOST_FIRST)% %REQUESTED_SERVER_NAME(SNI_FIRST:HOST)%",
                 "books.example books.example:8080 books.example", id="server-name"),
    pytest.param("%STREAM_ID%", "11111111-2222-4333-8444-555555555555", id="stream-id"),
    pytest.param("%XFCC_VALUE(uri)% %XFCC_VALUE(Subject)% %XFCC_VALUE(dns)% %XFCC_VALUE(cert)%",
                 'spiffe://a CN="x",O=y d -', id="client-certificate"),
    pytest.param("%HOSTNAME%", socket.gethostname(), id="hostname"),
    # metadata
    pytest.param("%METADATA(ROUTE:ns:owner)% %METADATA(CLUSTER:ns)% %CLUSTER_METADATA(ns:tier)%", 'ann {"tier":"gold"} gold', id="metadata"),
    pytest.param("%METADATA(UPSTREAM_HOST:ns:rack)% %UPSTREAM_METADATA(ns:rack)% %METADATA(LISTENER:ns:team)% %METADATA(VIRTUAL_HOST:ns:zone)%",
                 "r9 r9 edge z1", id="metadata-of-others"),
    pytest.param("%METADATA(ROUTE:ns:limits)% %METADATA(ROUTE:ns:limits:rps)% %METADATA(ROUTE:no)% %METADATA(ROUTE)%",
                 '{"rps":1e+05} 1e+05 - -', id="metadata-numbers"),
    pytest.param("%DYNAMIC_METADATA(f:deep)% %DYNAMIC_METADATA(f:deep):5% %DYNAMIC_METADATA(f:yes)% %DYNAMIC_METADATA(f:none)% %DYNAMIC_METADATA(f:number:x)%",
                 '{"a":0.1,"z":[1,"x"]} {"a": true - -', id="dynamic-metadata"),
    pytest.param("%DYNAMIC_METADATA(f:text)%", "a\\x0ab", id="metadata-cannot-break-the-line"),
    pytest.param("%FILTER_STATE(who)% %FILTER_STATE(who:PLAIN):5% %FILTER_STATE(map:FIELD:field)% %FILTER_STATE(none)%",
                 '"say \\"hi\\"" say " inner -', id="filter-state"),
    # combined
    pytest.param('%COALESCE({"operators":[{"command":"REQ","param":"x-none"},"ROUTE_NAME"]})%', "books", id="coalesce"),
    pytest.param('%COALESCE({"operators":[{"command":"REQ","param":"x-empty"},{"command":"REQ","param":":path","max_length":4}]}):2%', "/b", id="coalesce-lengths"),
    pytest.param('%COALESCE({"operators":["TRACE_ID"]})%', "-", id="coalesce-nothing"),
    pytest.param("%TRACE_ID% %DOWNSTREAM_TLS_VERSION% %UPSTREAM_PEER_SUBJECT% %TLS_JA3_FINGERPRINT%", "- - - -", id="unknown-to-us"),
])  # fmt: skip
def test_a_finished_request(render, format, line):
    assert render(format) == line


@pytest.mark.parametrize(("format", "line"), [
    ("%PROTOCOL% %REQ(:path)% %RESP(x)% %TRAILER(x)% %PATH% %QUERY_PARAM(a)% %QUERY_PARAMS%", "- - - - - - -"),
    ("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES%", "0 - 0 0"),
    ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_PORT% %UPSTREAM_CONNECTION_ID%", "- - - - 0"),
    ("%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_CONNECTION_IDS_ATTEMPTED% %ROUTE_NAME% %METADATA(ROUTE:a)%", "- - - -"),
    ("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "/run/a.sock - /run/a.sock"),
    ("%GRPC_STATUS% %REQUESTED_SERVER_NAME% %XFCC_VALUE(uri)% %FILTER_CHAIN_NAME%", "- - - -"),
    ("%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION%", "250 - -"),
    ("%UPSTREAM_DETECTED_CLOSE_TYPE% %DOWNSTREAM_DETECTED_CLOSE_TYPE% %ACCESS_LOG_TYPE%", "- Normal NotSet"),
    ("%ROUTE_RESOLUTION_COUNT% %ROUTE_RESOLUTION_TIME_US%", "0 -"),
])  # fmt: skip
def test_a_connection_that_is_no_request(bare, clock, format, line):
    assert compiled(format).text(bare, clock) == line


@pytest.mark.parametrize(("format", "problem"), [
    ("50%", "Incorrect configuration: 50%. Couldn't find valid command at position 2"),
    ("é%", "Incorrect configuration: é%. Couldn't find valid command at position 2"),
    ("%protocol%", "Incorrect configuration: %protocol%. Couldn't find valid command at position 0"),
    ("%REQ(a", "Incorrect configuration: %REQ(a. Couldn't find valid command at position 0"),
    ("%REQ(a)x%", "Incorrect configuration: %REQ(a)x%. Couldn't find valid command at position 0"),
    ("%REQ(a):-1%", "Incorrect configuration: %REQ(a):-1%. Couldn't find valid command at position 0"),
    ("%REQ(a):18446744073709551616%", "Incorrect configuration: %REQ(a):18446744073709551616%. Couldn't find valid command at position 0"),
    ("%REQ(a\nb)%", "Incorrect configuration: %REQ(a\nb)%. Couldn't find valid command at position 0"),
    ("%WEATHER%", "Not supported field in StreamInfo: WEATHER"),
    ("%REQ_WITHOUT_QUERY(:path)%", "Not supported field in StreamInfo: REQ_WITHOUT_QUERY"),
    ("%RESPONSE_CODE(x)%", "RESPONSE_CODE does not take any parameters or length"),
    ("%RESPONSE_CODE:3%", "RESPONSE_CODE does not take any parameters or length"),
    ("%RESP%", "RESP requires parameters"),
    ("%TRAILER()%", "TRAILER requires parameters"),
    ("%EMIT_TIME:3%", "EMIT_TIME does not allow length to be specified."),
    ("%CLUSTER_METADATA(a):3%", "CLUSTER_METADATA does not allow length to be specified."),
    ("%RESP(a?b?c)%", "More than 1 alternative header specified in token: a?b?c"),
    ("%REQ(a)b% %REQ(c)%", "Invalid header configuration. Format string contains invalid characters."),
    ("%RESP(a:b)%", "Invalid header configuration. Format string contains invalid characters."),
    ("%REQ(é)%", "Invalid header configuration. Format string contains invalid characters."),
    ("%PATH(Q)%", "Invalid PATH option: 'Q', only 'WQ'/'NQ' are allowed"),
    ("%PATH(NQ:X)%", "Invalid PATH option: 'X', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"),
    ("%QUERY_PARAMS(RAW)%", "Invalid QUERY_PARAMS option: 'RAW', only 'ORIG'/'DECODED' are allowed"),
    ("%GRPC_STATUS(LOWER)%", "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: LOWER"),
    ("%REQUESTED_SERVER_NAME(ANY)%", "Invalid REQUESTED_SERVER_NAME option: 'ANY', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"),
    ("%REQUESTED_SERVER_NAME(SNI_FIRST:ANY)%", "Invalid REQUESTED_SERVER_NAME option: 'ANY', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed"),
    ("%XFCC_VALUE%", "XFCC_VALUE command requires a subcommand"),
    ("%XFCC_VALUE(issuer)%", "XFCC_VALUE command does not support subcommand: issuer"),
    ("%METADATA(LISTENERS:a)%", "LISTENERS is not supported type of metadata"),
    ("%FILTER_STATE%", "Invalid filter state configuration, key cannot be empty."),
    ("%FILTER_STATE(a:JSON)%", "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD."),
    ("%FILTER_STATE(a:FIELD)%", "Invalid filter state serialize type, FIELD should be used with the field name."),
    ("%COMMON_DURATION(US_TX_BEG)%", "Invalid common duration configuration: US_TX_BEG."),
    ("%COMMON_DURATION(A:B:s)%", "Invalid common duration precision: s."),
    ("%START_TIME(%Y%n)%", "Invalid header configuration. Format string contains newline."),
    ("%EMIT_TIME_LOCAL(%-4On)%", "Invalid header configuration. Format string contains newline."),
    ("%COALESCE({)%", "COALESCE: failed to parse JSON configuration: "),
    ("%COALESCE([])%", "COALESCE: JSON configuration must contain 'operators' array"),
    ("%COALESCE(3)%", "COALESCE: JSON configuration must contain 'operators' array"),
    ('%COALESCE({"operators":{}})%', "COALESCE: 'operators' must be an array"),
    ('%COALESCE({"operators":[]})%', "COALESCE: 'operators' array must not be empty"),
    ('%COALESCE({"operators":[true]})%', "COALESCE: failed to parse operator at index 0: operator entry must be"),
    ('%COALESCE({"operators":["HOSTNAME","WHO"]})%', "COALESCE: failed to parse operator at index 1: unknown command: 'WHO'"),
    ('%COALESCE({"operators":[{"command":"REQ","param":"x","max_length":0}]})%', "COALESCE: failed to parse operator at index 0: 'max_length' must be a positive integer"),
    ("%COALESCE(" + "[" * 100_000 + ")%", "COALESCE: failed to parse JSON configuration: "),
    ("%CEL(1 + 1)%", "not supported yet: CEL"),
])  # fmt: skip
def test_what_is_refused(format, problem):
    where = Where.nowhere().field("format")

    compile_format(format, where)

    assert [(item.path, item.text[: len(problem)]) for item in where.problems.items] == [("format", problem)]


def test_the_default_line(render):
    assert render(DEFAULT_FORMAT) == (
        '[2026-09-21T14:13:20.123Z] "GET /books?id=7&q=%41%0a&flag&id=8 HTTP/1.1" 200 - 3 100000 301 - "-" '
        '"curl/8" "11111111-2222-4333-8444-555555555555" "books.example:8080" "203.0.113.5:80"\n'
    )


def test_nothing_instead_of_a_dash(render):
    assert render("[%REQ(x-none)%%TRACE_ID%|%RESPONSE_FLAGS%]", omit_empty=True) == "[|-]"


def test_header_bytes_that_are_not_text_are_kept(info, clock):
    info.request.headers.add("x-raw", b"\xff\xfea")

    format = compiled("%REQ(x-raw)%.")

    assert (format.bytes(info, clock), format.text(info, clock)) == (b"\xff\xfea.", "\ufffd\ufffda.")


def test_response_flags(info, clock):
    info.flags = UPSTREAM_CONNECTION_FAILURE | DOWNSTREAM_PROTOCOL_ERROR

    line = compiled("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%").text(info, clock)

    assert line == "UF,DPE UpstreamConnectionFailure,DownstreamProtocolError"


@pytest.mark.parametrize(("name", "printed"), [
    ("good-name.example", "good-name.example"),
    ("evil\n[2026] \"GET", "invalid:evil__2026___GET"),
    ("a_b", "invalid:a_b"),
])  # fmt: skip
def test_a_server_name_cannot_forge_lines(info, clock, name, printed):
    info.connection.server_name = name

    assert compiled("%REQUESTED_SERVER_NAME%").text(info, clock) == printed


def test_a_host_that_could_not_be_reached(info, clock):
    info.attempted_hosts = None
    info.upstream_remote = info.upstream_local = NOWHERE
    info.upstream_connection_id = -1

    line = compiled(
        "%UPSTREAM_HOST% %UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_REMOTE_PORT% %UPSTREAM_CONNECTION_ID% "
        "%UPSTREAM_CONNECTION_IDS_ATTEMPTED% %UPSTREAM_DETECTED_CLOSE_TYPE%"
    ).text(info, clock)

    assert line == "203.0.113.5:80 - - 0 - Normal"


def test_failures_are_told_in_one_word(info, clock):
    info.upstream_failure = "TLS error: bad\r\nthing"
    info.termination_details = "closed\tby us\n"
    info.local_close_reason = "idle timeout"
    info.upstream_local_close_reason = "drained"
    info.virtual_cluster = "searches"

    line = compiled(
        "%UPSTREAM_TRANSPORT_FAILURE_REASON% %CONNECTION_TERMINATION_DETAILS% %DOWNSTREAM_LOCAL_CLOSE_REASON% "
        "%UPSTREAM_LOCAL_CLOSE_REASON% %VIRTUAL_CLUSTER_NAME%"
    ).text(info, clock)

    assert line == "TLS_error:_bad__thing closed\\x09by us\\x0a idle_timeout drained searches"


@pytest.mark.parametrize(("content_type", "headers", "trailers", "status", "line"), [
    (b"application/grpc", [(b"grpc-status", b"5")], [], 200, "NotFound NOT_FOUND 5 5"),
    (b"application/grpc+proto", [(b"grpc-status", b"1")], [(b"grpc-status", b"0")], 200, "OK OK 0 0"),
    (b"application/grpc", [(b"grpc-status", b"1")], [], 200, "Canceled CANCELLED 1 1"),
    (b"application/grpc", [(b"grpc-status", b"99")], [], 200, "99 99 99 99"),
    (b"application/grpc", [(b"grpc-status", b"no")], [], 200, "-1 -1 -1 -1"),
    (b"application/grpc", [(b"grpc-status", b"9" * 5000)], [], 200, "-1 -1 -1 -1"),
    (b"application/grpc", [], [], 503, "Unavailable UNAVAILABLE 14 14"),
    (b"application/grpc", [], [], 201, "Unknown UNKNOWN 2 2"),
    (b"application/grpc", [], [], 0, "- - - -"),
    (b"application/grpc-web", [(b"grpc-status", b"5")], [], 200, "- - - -"),
    (b"text/plain", [(b"grpc-status", b"5")], [], 200, "- - - -"),
])  # fmt: skip
def test_grpc_status(info, clock, content_type, headers, trailers, status, line):
    info.request.headers.set("content-type", content_type)
    info.status = status
    for name, value in headers:
        info.response.headers.add(name, value)
    for name, value in trailers:
        info.response_trailers.add(name, value)

    format = compiled("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%")

    assert format.text(info, clock) == line


@pytest.mark.parametrize(("query", "decoded"), [
    (b"a=%41%2b%7e", b"a=A+~"),
    (b"a=%20%22%3c%3E%5c%5e%7b%7C%7d%7f%80%00", b"a=%20%22%3c%3E%5c%5e%7b%7C%7d%7f%80%00"),
    (b"a=%zz&b=%2", b"a=zz&b=%2"),
    (b"a=%2&b=1", b"a=2&b=1"),
    (b"%", b"%"),
])  # fmt: skip
def test_decoding_a_whole_query(query, decoded):
    assert commands_http._decoded(query) == decoded


@pytest.mark.parametrize(("header", "key", "value"), [
    (b"URI=a,URI=b", b"uri", b"a"),
    (b"By=x,URI=b", b"uri", b"b"),
    (b'URI="a;b,c";By=d', b"by", b"d"),
    (b' Hash = " h " ', b"hash", b" h "),
    (b'Subject="";URI=', b"subject", b""),
    (b"URI", b"uri", b""),
    (b'URI="open', b"uri", None),
    (b"", b"uri", None),
    (b"DNS=a=b", b"dns", b"a=b"),
])  # fmt: skip
def test_client_certificate_header(header, key, value):
    assert xfcc_value(header, key) == value


def test_unique_ids_come_from_the_workers_chance(info, bare, clock, monkeypatch):
    monkeypatch.setattr(commands_http.UNIQUE_IDS, "random", Random(1))
    first = compiled("%UNIQUE_ID% %UNIQUE_ID%").text(info, clock)
    monkeypatch.setattr(commands_http.UNIQUE_IDS, "random", Random(1))
    again = compiled("%UNIQUE_ID% %STREAM_ID%").text(bare, clock)

    one, two = first.split()
    assert one != two
    assert again == first
    assert (len(one), one[14]) == (36, "4")


def test_environment_is_read_once(info, clock, monkeypatch):
    monkeypatch.setenv("WEFT_TEST_ZONE", "zone-1")
    monkeypatch.delenv("WEFT_TEST_NONE", raising=False)
    format = compiled("%ENVIRONMENT(WEFT_TEST_ZONE):4% %ENVIRONMENT(WEFT_TEST_NONE)%")
    monkeypatch.setenv("WEFT_TEST_ZONE", "other")

    assert format.text(info, clock) == "zone -"


@pytest.mark.parametrize(("raw", "shown"), [
    (b"plain \xff text", b"plain \xff text"),
    (b"a\r\nb\x00\x1b[31m\x7f", b"a\\x0d\\x0ab\\x00\\x1b[31m\\x7f"),
])  # fmt: skip
def test_control_characters_are_shown_not_written(raw, shown):
    assert printable(raw) == shown
