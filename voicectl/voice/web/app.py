"""The control plane over HTTP: token endpoint, health, what the page needs to know, the page itself. One origin.

Not here: minting (tokens.py), what a call does with a token (call.py), LiveKit's reports (webhooks.py), the figures
(metrics.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST

from voicectl.memory import room_log
from voicectl.memory.errors import SettingError, StoreUnavailable
from voicectl.memory.store.engine import Store, open_store
from voicectl.memory.store.leases import Leases, open_leases
from voicectl.voice.build import build_id
from voicectl.voice.config import VoiceSettings
from voicectl.voice.desk_list import DESKS, DeskInfo, all_desks, is_ours
from voicectl.voice.errors import DeskUnknown
from voicectl.voice.rooms.admin import room_admin
from voicectl.voice.rooms.busy import lines
from voicectl.voice.rooms.reconciler import Reconciler
from voicectl.voice.rooms.registry import live_workers
from voicectl.voice.rooms.wake import Wake
from voicectl.voice.web.metrics import figures
from voicectl.voice.web.tokens import NotVouched, TokenRequest, customer_in, mint
from voicectl.voice.web.webhooks import Webhooks, routes

log = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
MAX_BODY_BYTES = 16_384
PROBE_S = 2.0
TIDY_S = 6 * 3600.0


class Problem(Exception):
    """An answer that is not what was asked for: status, words, remedy."""

    def __init__(self, status: int, error: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        self.status, self.error, self.remedy, self.headers = status, error, remedy, headers or {}
        super().__init__(error)


def create_app(settings: VoiceSettings) -> FastAPI:
    """The application of one installation."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.leases = leases = await asyncio.to_thread(open_leases, settings)
        app.state.store = store = await asyncio.to_thread(open_store, settings)
        timeout = aiohttp.ClientTimeout(total=PROBE_S)
        async with aiohttp.ClientSession(timeout=timeout) as client, room_admin(settings) as admin:
            app.state.client = client
            app.state.wake = wake = Wake(leases)
            # Workers heal rooms too; this one is still here when the only worker has died.
            healing = asyncio.create_task(Reconciler("web", settings, store, leases, admin, wake=wake).run())
            tidying = asyncio.create_task(_tidy(store))
            yield
            healing.cancel()
            tidying.cancel()
            await asyncio.gather(healing, tidying, return_exceptions=True)
            wake.close()
        leases.close()
        store.close()

    policy = content_policy(settings.livekit_url)
    hosts = ["127.0.0.1", "localhost"] if _is_loopback(settings.http_host) else ["*"]
    app = FastAPI(title="voicectl", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    # A page of somebody else that points its own name at this machine must not get tokens here (DNS rebinding).
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)

    @app.exception_handler(Problem)
    async def problem(_: Request, e: Problem) -> JSONResponse:
        return JSONResponse({"error": e.error, "remedy": e.remedy}, e.status, headers=e.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, e: RequestValidationError) -> JSONResponse:
        first = e.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        return JSONResponse({"error": f"{where}: {first['msg']}", "remedy": "Send LiveKit's token request."}, 422)

    @app.middleware("http")
    async def bounded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        if (
            not length.isdigit()
            or int(length) > MAX_BODY_BYTES
            or "chunked" in request.headers.get("transfer-encoding", "")
        ):
            return JSONResponse({"error": f"a request of up to {MAX_BODY_BYTES} bytes is taken", "remedy": ""}, 413)
        response = await call_next(request)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    webhooks = Webhooks(settings, lambda: app.state.wake.poke())
    app.include_router(routes(webhooks))

    @app.post("/api/token", status_code=201)
    async def token(request: Request, wanted: TokenRequest) -> dict[str, str]:
        if settings.auth == "demo" and request.client and not _is_loopback(request.client.host):
            raise Problem(403, "demo mode serves this machine only", "Set VOICE_AUTH=jwt to serve others.")
        await _room_for_one_more(app.state.leases, settings.agent_name)
        desk = (wanted.room_config.agents[0].agent_name if wanted.room_config.agents else "") or settings.default_desk
        try:
            customer, name = customer_in(settings, wanted, request.headers.get("authorization", ""))
            known = DESKS if is_ours(desk) else await _desks(app.state.store)
            minted, _ = mint(settings, customer, name, desk, known=known)
        except NotVouched as e:
            raise Problem(401, f"who you are is not vouched for: {e.reason}") from e
        except DeskUnknown as e:
            raise Problem(404, str(e), "Choose one of these.") from e
        except SettingError as e:
            raise Problem(400, str(e)) from e
        return {"server_url": settings.livekit_url, "participant_token": minted}

    @app.get("/api/desks")
    async def desks() -> list[dict[str, str]]:
        return [{"name": d.name, "title": d.title, "description": d.description} for d in await _desks(app.state.store)]

    @app.get("/api/about")
    async def about() -> dict[str, Any]:
        return {
            "build_id": build_id(),
            "auth": settings.auth,
            "livekit_url": settings.livekit_url,
            "engines": {
                "llm": {
                    "name": "small local model" if settings.llm_is_local() else settings.llm_model,
                    "local": settings.llm_is_local(),
                },
                "stt": {"local": settings.stt_is_local()},
                "tts": {"local": settings.tts_is_local()},
            },
        }

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        text = await asyncio.to_thread(
            figures,
            app.state.leases,
            app.state.store,
            mirrored=settings.backend == "letta",
            webhooks=webhooks.counts,
        )
        return PlainTextResponse(text, media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        missing = await what_is_missing(settings, app.state.leases, app.state.client)
        return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

    if STATIC.is_dir():
        app.mount("/assets", _Hashed(directory=STATIC / "assets"), name="assets")

        @app.api_route("/", methods=["GET", "HEAD"])
        async def page() -> FileResponse:
            return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-store"})

    return app


def content_policy(livekit_url: str) -> str:
    """What the page may load: itself, and LiveKit by both of its schemes (the client asks over HTTP too)."""
    other = livekit_url.replace("ws", "http", 1)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self' {livekit_url} {other}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Hashed(StaticFiles):
    """Files whose names carry their hash: kept by browsers for good."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def _is_loopback(host: str) -> bool:
    return host in ("::1", "localhost", "testclient") or host.startswith("127.")


async def _tidy(store: Store) -> None:
    """Keep the log of rooms at its length, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(room_log.prune, store)
        except StoreUnavailable as e:
            log.warning("the log of rooms is pruned another time", extra={"why": e.reason})
        await asyncio.sleep(TIDY_S)


async def _desks(store: Store) -> tuple[DeskInfo, ...]:
    """All desks; of a store that does not answer only ours, which need none."""
    try:
        return await asyncio.to_thread(all_desks, store)
    except StoreUnavailable as e:
        log.warning("desks of Letta's agents are missing", extra={"why": e.reason})
        return DESKS


async def _room_for_one_more(leases: Leases, agent_name: str) -> None:
    """Refuse a customer now whom nobody could answer."""
    try:
        rows = await asyncio.to_thread(leases.rows, taken=True)
    except StoreUnavailable:
        return  # the offer decides; a store that stands still must not keep customers out
    if lines(rows, agent_name).full:
        raise Problem(503, "all lines are busy, please try again in a moment", headers={"Retry-After": "10"})


async def what_is_missing(settings: VoiceSettings, leases: Leases, client: aiohttp.ClientSession) -> dict[str, str]:
    """What keeps a call from being answered now: part → reason. Empty: ready."""
    missing: dict[str, str] = {}
    http_url = settings.livekit_url.replace("ws", "http", 1)
    await _probe(client, http_url, "livekit", missing)
    if settings.llm_is_local():
        url = settings.local_llm_url
        if url is None:
            missing["llm"] = "not started"
        else:
            await _probe(client, f"{url.removesuffix('/v1')}/health", "llm", missing)
    try:
        if not await asyncio.to_thread(live_workers, leases):
            missing["worker"] = "none is registered"
    except StoreUnavailable as e:
        missing["store"] = e.reason
    return missing


async def _probe(client: aiohttp.ClientSession, url: str, part: str, missing: dict[str, str]) -> None:
    try:
        async with client.get(url) as answer:
            if answer.status != 200:
                missing[part] = f"{url} answered {answer.status}"
    except (aiohttp.ClientError, TimeoutError) as e:
        missing[part] = f"{url} did not answer ({type(e).__name__})"
