"""The running app, asked as a page of another site would make a browser ask it."""

import base64
import http.client
import os
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.support.served_app import Served


def asked(app: Served, path: str, host: str, **headers: str) -> http.client.HTTPResponse:
    """The answer to a request under that host name, connected to this machine whatever it is."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(app.address).port, timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in {"Host": host, **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    with closing(connection):
        response = connection.getresponse()
        response.close()
        return response


def stream(app: Served, host: str) -> int:
    """The status of a WebSocket's handshake from a page of that host itself."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    origin = {"Origin": f"http://{host}", "Sec_WebSocket_Key": key}
    return asked(app, "/_stcore/stream", host, **upgrade, **origin).status


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_machine_itself_is_answered(app, name):
    host = f"{name}:{urlsplit(app.address).port}"
    assert asked(app, "/", host).status == 200
    assert stream(app, host) == 101


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_another_name_that_resolves_to_this_machine_is_refused(app, name):
    host = f"{name}:{urlsplit(app.address).port}"
    assert [asked(app, path, host).status for path in ("/", "/media/x", "/report")] == [403] * 3
    assert stream(app, host) == 403
    assert asked(app, "/_stcore/health", host).status == 200


def test_no_other_site_may_show_it_in_a_frame_or_make_it_fetch_images(app):
    host = urlsplit(app.address).netloc
    for path in ("/", "/report", "/_stcore/health"):
        response = asked(app, path, host)
        policy = response.getheader("Content-Security-Policy")
        assert "frame-ancestors 'self'" in policy and "img-src 'self' data: blob:" in policy
        assert response.getheader("X-Frame-Options") == "SAMEORIGIN"
