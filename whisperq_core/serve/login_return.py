"""Back to the link that somebody followed, once they have logged in.

The provider sends everyone to the app's first page. The address of the page on which they pressed
the button is in a cookie meanwhile: the browser names it when it asks to log in (Referer).
"""

import re
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from whisperq_core.serve.http_guard import Application, Message, Receive, Send

_LOGIN, _LOGGED_IN = "/auth/login", "/oauth2callback"
_COOKIE = "whisperq_return"
_MAX_AGE_S = 600
# A path on this server: "//host" and "/\\host" would lead to others. Browsers hold 4,096 bytes.
_ADDRESS = re.compile(r"/(?!/)[!-\[\]-~]{0,1200}")


class LoginReturn:
    """ASGI middleware: remembers the page when a login begins, and leads there when it ends."""

    def __init__(self, app: Application):
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request, as the ASGI specification has it."""
        if scope["type"] != "http" or not scope["path"].endswith((_LOGIN, _LOGGED_IN)):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        begins = scope["path"].endswith(_LOGIN)
        address = _address_of(request) if begins else _remembered(request)

        async def send_with_address(message: Message) -> None:
            if message["type"] == "http.response.start" and address:
                headers = MutableHeaders(scope=message)
                value, age = (quote(address, safe=""), _MAX_AGE_S) if begins else ("", 0)
                headers.append(
                    "set-cookie",
                    f"{_COOKIE}={value}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax",
                )
                if not begins and "location" in headers:
                    headers["location"] = address
            await send(message)

        await self._app(scope, receive, send_with_address)


def _address_of(request: Request) -> str | None:
    """Path and query of the page that asks, where it is one of this server's."""
    asking = urlsplit(request.headers.get("referer", ""))
    if asking.netloc != request.headers.get("host"):
        return None
    return _valid(asking.path + (f"?{asking.query}" if asking.query else ""))


def _remembered(request: Request) -> str | None:
    return _valid(unquote(request.cookies.get(_COOKIE, "")))


def _valid(address: str) -> str | None:
    return address if _ADDRESS.fullmatch(address) else None
