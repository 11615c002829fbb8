"""Direct responses that tell of the request, and what the connection manager makes of them."""

import pytest

REPLY = "%LOCAL_REPLY_BODY%"


def direct(status=200, **more):
    return [{"name": "r", "match": {"prefix": "/"}, "direct_response": {"status": status, **more}}]


def get(path=b"/"):
    return b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n\r\n"


def text(format, **more):
    return {"text_format_source": {"inline_string": format}, **more}


@pytest.mark.parametrize(("answer", "content_type", "body"), [
    ({"body_format": text("%REQ(:PATH)% %ROUTE_NAME%")}, b"text/plain", b"/p r"),
    ({"body_format": text(REPLY), "body": {"inline_string": "b"}}, b"text/plain", b"b"),
    ({"body_format": text(f"<{REPLY}>", content_type="text/html"), "body": {"inline_string": "b"}}, b"text/html", b"<b>"),
    ({"body_format": {"json_format": {"path": "%REQ(:PATH)%"}}}, b"application/json", b'{"path":"/p"}\n'),
    ({"body_format": {"json_format": {"a": 1}, "content_type": "a/b"}}, b"a/b", b'{"a":1}\n'),
])  # fmt: skip
async def test_a_formatted_body(world, answer, content_type, body):
    async with world(routes=direct(**answer)) as w:
        client = await w.client()
        response = await w.ask(client, get(b"/p"))
        assert (response.status, response.body) == (200, body)
        assert response.values(b"content-type") == [content_type]
        assert response.values(b"content-length") == [b"%d" % len(body)]


async def test_every_request_has_its_own_body(world):
    async with world(routes=direct(body_format=text("%REQ(:PATH)%"))) as w:
        client = await w.client()
        assert [(await w.ask(client, get(path))).body for path in (b"/a", b"/b?c")] == [b"/a", b"/b?c"]


@pytest.mark.parametrize(("format", "wanted"), [
    (text("b"), b"from/rule"),
    (text("b", content_type="from/format"), b"from/format"),
])  # fmt: skip
async def test_a_content_type_of_the_format_stands_above_header_rules(world, format, wanted):
    (route,) = direct(body_format=format)
    route["response_headers_to_add"] = [{"header": {"key": "content-type", "value": "from/rule"}}]
    async with world(routes=[route]) as w:
        client = await w.client()
        assert (await w.ask(client)).values(b"content-type") == [wanted]


async def test_the_connection_manager_has_the_last_word(world):
    mapped = {"local_reply_config": {
        "mappers": [{
            "filter": {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": 403, "runtime_key": "k"}}}},
            "headers_to_add": [{"header": {"key": "content-type", "value": "from/mapper"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        }],
        "body_format": text(f"[{REPLY}]", content_type="from/manager"),
    }}  # fmt: skip
    for status, wanted in ((200, b"from/manager"), (403, b"from/mapper")):
        async with world(hcm=mapped, routes=direct(status, body_format=text("b", content_type="from/format"))) as w:
            client = await w.client()
            response = await w.ask(client)
            assert (response.body, response.values(b"content-type")) == (b"[b]", [wanted])


async def test_a_filter_action_without_a_filter_that_answers(world):
    async with world(routes=[{"match": {"prefix": "/"}, "filter_action": {}}]) as w:
        client = await w.client()
        response = await w.ask(client)
        assert (response.status, response.body) == (503, b"")
        assert w.stat("no_cluster") == 1
