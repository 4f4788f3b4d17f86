"""The page's server: what it answers to which address."""

from __future__ import annotations

import asyncio
import shlex
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from exposurediffusion.photographs.failures import reason
from exposurediffusion.photographs.photograph import FORMATS, Format
from exposurediffusion.web import looking, thumbnails
from exposurediffusion.web.album import Album, NotThere, Photograph, TooLarge
from exposurediffusion.web.asked import Asked
from exposurediffusion.web.guard import Guard
from exposurediffusion.web.orders import Order, Orders
from exposurediffusion.web.windows import Source, Window
from exposurediffusion.web.workers import NotWanted, Worker, WorkerDied

_PAGE = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_STATUS = {
    NotThere: 410,
    TooLarge: 413,
    WorkerDied: 503,
    ValueError: 422,
    OSError: 422,
    ClientDisconnect: 499,
    NotWanted: 499,
}


class Pages:
    """What is answered.

    Attributes:
        album: the photographs.
        orders: the queue.
        looking, thumbnails: workers.
    """

    def __init__(self, album: Album, orders: Orders, weights: str, device: str) -> None:
        self.album, self.orders = album, orders
        self.looking = Worker(looking.begin, weights, device)
        self.thumbnails = Worker(thumbnails.begin)
        self._thumbnails: dict[Source, bytes] = {}

    async def index(self, request: Request) -> Response:
        """The page itself."""
        return Response(_file("index.html"), media_type="text/html")

    async def page(self, request: Request) -> Response:
        """What belongs to the page."""
        name = request.path_params["name"]
        if name not in _PAGE:
            raise HTTPException(404)
        return Response(_file(name), media_type=_PAGE[name])

    async def photographs(self, request: Request) -> Response:
        """The album."""
        every = await asyncio.to_thread(self.album.photographs)
        shown = [{"key": one.key, "name": one.path.name, "uploaded": one.uploaded} for one in every]
        return JSONResponse({"photographs": shown, "limit": self.album.limit})

    async def upload(self, request: Request) -> Response:
        """A raw file that is dropped; its bytes are the body."""
        one = await self.album.take(request.query_params.get("name", ""), request.stream())
        return JSONResponse({"key": one.key, "name": one.path.name, "uploaded": True}, 201)

    async def thumbnail(self, request: Request) -> Response:
        """A small picture."""
        source = Source.of(self._photograph(request).path)
        if source not in self._thumbnails:
            wanted = _is_waiting(request)
            self._thumbnails[source] = await self.thumbnails.do(thumbnails.thumbnail, source.path, wanted=wanted)
        return Response(self._thumbnails[source], media_type="image/jpeg")

    async def facts(self, request: Request) -> Response:
        """What is known, and would be done."""
        return JSONResponse(await self._look(request, looking.facts))

    async def command(self, request: Request) -> Response:
        """The words of the command that does the same."""
        path, format = self._photograph(request).path, _format(request.query_params.get("format", "dng"))
        words = ["expose", "enhance", str(path), *Asked.of(request.query_params).words()]
        return JSONResponse({"command": shlex.join(words + ([] if format == "dng" else ["--format", format]))})

    async def view(self, request: Request) -> Response:
        """The whole, or a window, before or after."""
        which = request.query_params.get("which", "after")
        if which not in ("before", "after"):
            raise ValueError(f"a view is before or after, not {which[:20]!r}")
        picture, width, height = await self._look(request, looking.view, _window(request), which)
        size = {"x-photograph-width": str(width), "x-photograph-height": str(height)}
        return Response(picture, media_type="image/jpeg", headers=size)

    async def step(self, request: Request) -> Response:
        """One of the simulated exposures of a view."""
        steps, number = (_whole(request, name, most) for name, most in (("count", 16), ("number", 16)))
        if number > steps:
            raise ValueError(f"of {steps} exposures there is none of number {number}")
        found = await self._look(request, looking.development, _window(request), steps, number)
        pictures = {name: b64encode(found[name]).decode() for name in ("state", "estimate")}
        return JSONResponse({"exposure": found["exposure"], **pictures})

    async def overlay(self, request: Request) -> Response:
        """A map over a view."""
        name = request.path_params["name"]
        if name not in ("overruled", "spread", "mended"):
            raise HTTPException(404)
        return Response(await self._look(request, looking.overlay, _window(request), name), media_type="image/png")

    async def list_orders(self, request: Request) -> Response:
        """The queue."""
        return JSONResponse({"orders": self.orders.listing()})

    async def add_orders(self, request: Request) -> Response:
        """Put photographs into the queue: {"photographs": [key], "format": word, "overwrite": bool, "asked": {}}."""
        try:
            wish = await request.json()
            photographs = [self.album.find(str(key)) for key in wish["photographs"]]
            asked = Asked.of({str(name): str(value) for name, value in wish.get("asked", {}).items()})
            format = _format(wish.get("format", "dng"))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("no order: photographs, format and asked are expected") from error
        self.orders.add(photographs, format, asked, bool(wish.get("overwrite")))
        return await self.list_orders(request)

    async def forget_orders(self, request: Request) -> Response:
        """Take finished orders off the list."""
        self.orders.forget()
        return await self.list_orders(request)

    async def cancel(self, request: Request) -> Response:
        """Cancel an order."""
        self.orders.cancel(self._order(request))
        return await self.list_orders(request)

    async def result(self, request: Request) -> Response:
        """The file that came of an order."""
        order = self._order(request)
        target = order.job.target
        if order.state not in ("done", "kept") or not target.is_file():
            raise NotThere(f"{target.name}: there is no such result, or not any more")
        return FileResponse(target, filename=target.name)

    def _order(self, request: Request) -> Order:
        order = self.orders.find(request.path_params["number"])
        if order is None:
            raise NotThere("this order is not there any more")
        return order

    def _photograph(self, request: Request) -> Photograph:
        return self.album.find(request.path_params["key"])

    async def _look(self, request: Request, function: Callable[..., Any], *arguments: Any) -> Any:
        source, asked = Source.of(self._photograph(request).path), Asked.of(request.query_params)
        return await self.looking.do(function, source, asked, *arguments, wanted=_is_waiting(request))


def _file(name: str) -> bytes:
    return files("exposurediffusion.web").joinpath("page", name).read_bytes()


def _is_waiting(request: Request) -> Callable[[], Awaitable[bool]]:
    async def waiting() -> bool:
        return not await request.is_disconnected()

    return waiting


def _whole(request: Request, name: str, most: int) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= most):
        raise ValueError(f"{name}: {text[:20]!r} is no whole number up to {most}")
    return int(text)


def _window(request: Request) -> Window | None:
    words = [request.query_params.get(name) for name in ("x", "y", "width", "height")]
    if all(word is None for word in words):
        return None
    try:
        x, y, width, height = (float(word or "") for word in words)
        return Window(x, y, int(width), int(height))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"x, y, width, height: {words} name no part of a picture") from error


def _format(word: Any) -> Format:
    known = next((format for format in get_args(Format) if format == word), None)
    if known is None:
        raise ValueError(f"format: {str(word)[:20]!r} is none of {', '.join(get_args(Format))}")
    return FORMATS.get(known) or known


async def _fails(request: Request, error: Exception) -> Response:
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    return JSONResponse({"error": " ".join(reason(error).split())}, status)


def make_app(
    inputs: tuple[Path, ...],
    uploads: Path,
    *,
    weights: str = "default",
    device: str = "auto",
    output: Path | None = None,
    token: str | None = None,
    limit: int = 500_000_000,
) -> Starlette:
    """The application (ASGI).

    Args:
        inputs: raw files, and folders of them.
        uploads: a private folder that is there.
        weights, device: of `expose enhance`.
        output: folder for results; None: beside each photograph.
        token: that the page asks for.
        limit: bytes of an upload at most.
    """
    pages = Pages(Album(inputs, uploads, limit), Orders(weights, device, output), weights, device)

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        serving = asyncio.create_task(pages.orders.serve())
        beginning = asyncio.create_task(pages.looking.do(looking.ready))
        yield
        serving.cancel()
        beginning.cancel()
        for part in (pages.orders, pages.looking, pages.thumbnails):
            await asyncio.to_thread(part.stop)

    one = "/api/photographs/{key}"
    routes = [
        Route("/", pages.index),
        Route("/page/{name}", pages.page),
        Route("/api/photographs", pages.photographs),
        Route("/api/photographs", pages.upload, methods=["POST"]),
        Route(f"{one}/thumbnail", pages.thumbnail),
        Route(f"{one}/facts", pages.facts),
        Route(f"{one}/command", pages.command),
        Route(f"{one}/view", pages.view),
        Route(f"{one}/step", pages.step),
        Route(one + "/map/{name}", pages.overlay),
        Route("/api/orders", pages.list_orders),
        Route("/api/orders", pages.add_orders, methods=["POST"]),
        Route("/api/orders", pages.forget_orders, methods=["DELETE"]),
        Route("/api/orders/{number:int}", pages.cancel, methods=["DELETE"]),
        Route("/api/orders/{number:int}/file", pages.result),
    ]
    handlers = dict.fromkeys(_STATUS, _fails)
    guard = Middleware(Guard, token=token)  # pyright: ignore[reportArgumentType] - any ASGI class will do
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=living)  # pyright: ignore[reportArgumentType]
    app.state.pages = pages
    return app
