"""LiveKit's reports: what our server signed wakes the reconciler, everything else gets words and wakes nobody."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from google.protobuf.json_format import MessageToJson
from livekit import api

from voicectl.memory.config import load
from voicectl.voice.config import VoiceSettings
from voicectl.voice.events import WEBHOOK_PATH
from voicectl.voice.rooms.wake import Wake
from voicectl.voice.web.app import MAX_BODY_BYTES, create_app

pytestmark = pytest.mark.unit
KEY, SECRET = "key", "s" * 40


class Pokes:
    number = 0


@pytest.fixture
def pokes(monkeypatch: pytest.MonkeyPatch) -> Pokes:
    made, poke = Pokes(), Wake.poke

    def counted(wake: Wake) -> None:
        made.number += 1
        poke(wake)

    monkeypatch.setattr(Wake, "poke", counted)
    return made


@pytest.fixture
def client(tmp_path: Path, pokes: Pokes) -> Iterator[TestClient]:
    given = {"livekit_api_key": KEY, "livekit_api_secret": SECRET, "livekit_url": "ws://127.0.0.1:1"}
    app = create_app(load(VoiceSettings, home=tmp_path / "home", **given))
    with TestClient(app, base_url="http://127.0.0.1:9000") as made:
        yield made


def event(name: str = "participant_joined", age_s: float = 0, room: str = "call-1") -> bytes:
    said = api.WebhookEvent(event=name, id="EV_1", created_at=round(time.time() - age_s), room=api.Room(name=room))
    return MessageToJson(said).encode()


def signed(body: bytes, key: str = KEY, secret: str = SECRET) -> str:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return api.AccessToken(key, secret).with_sha256(digest).with_ttl(timedelta(minutes=5)).to_jwt()


def post(client: TestClient, body: bytes, signature: str | None):
    headers = {"Content-Type": "application/webhook+json"}
    if signature is not None:
        headers["Authorization"] = signature
    return client.post(WEBHOOK_PATH, content=body, headers=headers)


def counted(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    mark = 'voice_webhooks_total{outcome="'
    return {k.removeprefix(mark).removesuffix('"}'): float(v) for k, v in (n.split() for n in lines if mark in n)}


@pytest.mark.parametrize("name", ["participant_joined", "room_finished", "an_event_of_a_later_server"])
def test_what_our_server_signed_wakes_the_reconciler(client: TestClient, pokes: Pokes, name: str) -> None:
    body = event(name)

    answer = post(client, body, signed(body))

    assert (answer.status_code, answer.json()) == (200, {"outcome": "woke"})
    assert pokes.number == 1


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (event(), None),
        (event(), ""),
        (event(), "Bearer nonsense"),
        (event(), signed(event(), secret="t" * 40)),
        (event(), signed(event(), key="another")),
        (event(room="call-2"), signed(event(room="call-1"))),
        (event(), api.AccessToken(KEY, SECRET).to_jwt()),
        (b"\xff\xfe", signed(b"\xff\xfe")),
        (b"{", signed(b"{")),
        (b'{"event": 7}', signed(b'{"event": 7}')),
    ],
    ids=["none", "empty", "nonsense", "secret", "key", "tampered", "token", "bytes", "no JSON", "no event"],
)
def test_what_it_did_not_sign_gets_words_and_wakes_nobody(
    client: TestClient, pokes: Pokes, caplog: pytest.LogCaptureFixture, body: bytes, signature: str | None
) -> None:
    answer = post(client, body, signature)

    assert answer.status_code == 401
    assert "LiveKit key" in answer.json()["error"]
    assert pokes.number == 0
    (line,) = [r for r in caplog.records if r.name.startswith("voicectl.voice.web")]
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)
    assert counted(client) == {"woke": 0, "old": 0, "refused": 1}


def test_one_that_is_sent_again_is_another_look_and_nothing_else(client: TestClient, pokes: Pokes) -> None:
    body = event("participant_left")
    signature = signed(body)

    answers = [post(client, body, signature).status_code for _ in range(3)]

    assert answers == [200, 200, 200]
    assert pokes.number == 3
    assert counted(client) == {"woke": 3, "old": 0, "refused": 0}


def test_an_old_one_is_counted_and_wakes_nobody(client: TestClient, pokes: Pokes) -> None:
    body = event(age_s=90)

    answer = post(client, body, signed(body))

    assert (answer.status_code, answer.json()) == (200, {"outcome": "old"})
    assert pokes.number == 0
    assert counted(client) == {"woke": 0, "old": 1, "refused": 0}


def test_one_that_is_too_big_is_refused_unread(client: TestClient, pokes: Pokes) -> None:
    body = event(room="r" * MAX_BODY_BYTES)

    assert post(client, body, signed(body)).status_code == 413
    assert pokes.number == 0


def test_a_foreign_name_for_this_machine_is_refused(client: TestClient, pokes: Pokes) -> None:
    body = event()

    answer = client.post(WEBHOOK_PATH, content=body, headers={"Authorization": signed(body), "Host": "evil.example"})

    assert answer.status_code == 400
    assert pokes.number == 0


def test_without_a_key_nothing_is_believed(tmp_path: Path, pokes: Pokes) -> None:
    from voicectl.voice.web.webhooks import Outcome, Webhooks

    webhooks = Webhooks(load(VoiceSettings, home=tmp_path / "home"), lambda: pytest.fail("woken"))

    assert webhooks.receive(event(), signed(event()))[0] is Outcome.REFUSED
