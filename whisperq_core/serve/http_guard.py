"""What the app's server refuses and demands of browsers, before Streamlit answers a request.

A page of another site can make a browser ask this server: under a host name of its own that
resolves to 127.0.0.1 (DNS rebinding), or in a frame. Streamlit checks host names for its WebSocket
only, and sends no Content-Security-Policy.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

# Frames of other sites, and images and media of other servers, which foreign text could name.
CONTENT_SECURITY_POLICY = (
    "frame-ancestors 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:;"
    " object-src 'none'; base-uri 'self'; form-action 'self'"
)
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
# Whether the server is up is no secret, and load balancers ask for it by its IP address.
_HEALTH = "/_stcore/health"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class HttpGuard:
    """ASGI middleware: refuses requests under other host names, and adds HEADERS to responses.

    is_host_allowed: whether a request's Host header (None where there is none) names this app.
    """

    def __init__(self, app: Application, is_host_allowed: Callable[[str | None], bool]):
        self._app = app
        self._is_host_allowed = is_host_allowed

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request, as the ASGI specification has it."""
        if scope["type"] != "http":  # Streamlit checks its WebSocket itself
            await self._app(scope, receive, send)
            return
        names = [value for key, value in scope["headers"] if key == b"host"]
        host = names[0].decode("latin-1") if names else None
        is_health = scope["path"].endswith(_HEALTH)
        if len(names) > 1 or not (is_health or self._is_host_allowed(host)):
            await _refuse(host, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {key.lower() for key, _ in HEADERS}
                others = [pair for pair in message.get("headers", ()) if pair[0].lower() not in own]
                message = {**message, "headers": [*others, *HEADERS]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _refuse(host: str | None, send: Send) -> None:
    name = "".join(c for c in (host or "")[:100] if c.isprintable())
    text = (
        f"This WhisperQ does not answer under the host name {name or '(none)'}. Open it as"
        " http://localhost, or let its administrator add the name to server.allowedHosts"
        " (docs/operating.md, Sharing the app).\n"
    )
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
