"""Who may talk to the page, and what the page may load."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from secrets import compare_digest
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_COOKIE = "expose"
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_LOGIN = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>expose</title>
<meta name="viewport" content="width=device-width"></head><body><main><h1>expose</h1>
<form action="/" method="get"><label>Token, as <code>expose web --token</code> was given it:
<input name="token" type="password" autocomplete="current-password" autofocus></label>
<button>Enter</button></form></main></body></html>"""


@dataclass
class Guard:
    """Middleware: names of the host, token, requests of other pages, and headers that forbid all that is elsewhere.

    Attributes:
        app: what is guarded.
        token: that is asked for; None: nothing is.
    """

    app: ASGIApp
    token: str | None = None
    _pass: str = field(init=False)

    def __post_init__(self) -> None:
        self._pass = sha256(f"expose {self.token}".encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self.app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        host = urlsplit(f"//{request.headers.get('host', '')}")
        if self.token is None and host.hostname not in LOCAL:  # a name that someone made lead here (DNS rebinding)
            return _error("this page answers to localhost and 127.0.0.1 only", 403)
        origin = request.headers.get("origin")
        elsewhere = request.headers.get("sec-fetch-site") not in (None, "same-origin", "none")
        if request.method not in ("GET", "HEAD") and (elsewhere or (origin and urlsplit(origin).netloc != host.netloc)):
            return _error("another page may not ask for that", 403)
        if self.token is None:
            return None
        given = request.query_params.get("token")
        if request.url.path == "/" and given is not None and compare_digest(given.encode(), self.token.encode()):
            others = urlencode([(name, value) for name, value in parse_qsl(request.url.query) if name != "token"])
            answer = RedirectResponse(f"/?{others}" if others else "/", 303)
            answer.set_cookie(_COOKIE, self._pass, httponly=True, samesite="strict")
            return answer
        if compare_digest(request.cookies.get(_COOKIE, "").encode(), self._pass.encode()):
            return None
        return (
            HTMLResponse(_LOGIN, 401) if request.url.path == "/" else _error("the token is missing: open / first", 401)
        )


def _error(text: str, status: int) -> JSONResponse:
    return JSONResponse({"error": text}, status)
