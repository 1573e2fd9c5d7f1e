"""Which addresses a login leads back to; the browser's part is in tests/browser/test_login.py."""

import asyncio

import pytest

from whisperq_core.serve.login_return import LoginReturn


def answered(path: str, **headers: str) -> dict[str, str]:
    """The headers of the answer to a request, where the app itself redirects to its first page."""
    sent = []

    async def app(scope, receive, send):
        start = {"type": "http.response.start", "status": 302, "headers": [(b"location", b"/")]}
        await send(start)

    async def send(message):
        sent.append(message)

    named = [(b"host", b"localhost:8501")]
    named += [(key.encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "path": path, "headers": named}
    asyncio.run(LoginReturn(app)(scope, None, send))
    return {key.decode(): value.decode() for key, value in sent[0]["headers"]}


def test_a_login_leads_back_to_the_page_where_it_began():
    begun = answered("/auth/login", referer="http://localhost:8501/utterances?run=a%20b&sort=wer")
    assert begun["location"] == "/" and "HttpOnly; SameSite=Lax" in begun["set-cookie"]
    cookie = begun["set-cookie"].partition(";")[0]
    ended = answered("/oauth2callback", cookie=cookie)
    assert ended["location"] == "/utterances?run=a%20b&sort=wer"
    assert ended["set-cookie"].startswith("whisperq_return=; Max-Age=0")


@pytest.mark.parametrize(
    "referer",
    [
        "http://evil.example/utterances",
        "http://localhost:8501//evil.example",
        "http://localhost:8501/\\evil.example",
        "http://localhost:8501/" + "x" * 5000,
        "",
    ],
)
def test_no_other_address_is_remembered(referer):
    assert "set-cookie" not in answered("/auth/login", referer=referer)


@pytest.mark.parametrize(
    "planted", ["//evil.example", "/\\evil.example", "http://evil.example", "%2F%2Fevil.example"]
)
def test_a_planted_cookie_leads_nowhere_else(planted):
    answer = answered("/oauth2callback", cookie=f"whisperq_return={planted}")
    assert answer == {"location": "/"}


def test_other_requests_are_left_alone():
    answer = answered("/utterances", cookie="whisperq_return=%2Fterms", referer="http://x/")
    assert answer == {"location": "/"}
