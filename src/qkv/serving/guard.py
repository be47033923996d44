"""Who may talk to the lab: pages that it served itself, by the name that it listens on.

Running an experiment costs time, so a page from elsewhere that is open in the same browser must not be able to ask for
it: neither by a form (another Origin) nor by a name that resolves to this machine (another Host)."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse

POLICY = (
    # Vega compiles its expressions, which is what 'unsafe-eval' allows; no script comes from elsewhere.
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def guard(host: str) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Middleware for a server that listens on `host`: on loopback it answers to loopback names only."""

    async def check(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        named = urlsplit(f"//{request.headers.get('host', '')}")
        if is_loopback(host) and not is_loopback(named.hostname or ""):
            return PlainTextResponse("this lab answers on this machine only", 421)
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin and urlsplit(origin).netloc != named.netloc:
            return PlainTextResponse("this request comes from another site", 403)
        response = await answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    return check
