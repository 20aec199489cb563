"""The token endpoint: room, identity and grants are ours, whatever is asked; bad requests get words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from fastapi.testclient import TestClient

from voicectl.memory.config import load
from voicectl.memory.store.leases import LeaseState, open_leases
from voicectl.voice.config import VoiceSettings
from voicectl.voice.web.app import create_app

pytestmark = pytest.mark.unit
SECRET = "s" * 40


def client_for(tmp_path: Path, **settings: object) -> TestClient:
    given = {"livekit_api_key": "key", "livekit_api_secret": SECRET, "livekit_url": "ws://127.0.0.1:1", **settings}
    app = create_app(load(VoiceSettings, home=tmp_path / "home", **given))
    return TestClient(app, base_url="http://127.0.0.1:9000")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_for(tmp_path) as made:
        yield made


def claims(answer: object) -> dict:
    return jwt.decode(answer.json()["participant_token"], SECRET, algorithms=["HS256"])


def test_two_customers_get_rooms_and_identities_of_their_own(client: TestClient) -> None:
    one, two = (claims(client.post("/api/token", json={"participant_identity": "rahim"})) for _ in range(2))

    assert one["video"]["room"] != two["video"]["room"]
    assert one["sub"] != two["sub"]


def test_the_customer_the_desk_and_the_agents_name_are_inside_the_token(client: TestClient) -> None:
    wanted = {"participant_identity": "Rahim", "room_config": {"agents": [{"agent_name": "assistant"}]}}

    token = claims(client.post("/api/token", json=wanted))

    assert token["attributes"] == {"voice.customer": "demo:rahim", "voice.name": "Rahim"}
    (agent,) = token["roomConfig"]["agents"]
    assert (agent["agentName"], json.loads(agent["metadata"])) == ("voicectl", {"desk": "assistant"})


def test_what_a_client_asks_for_beyond_that_is_not_granted(client: TestClient) -> None:
    wanted = {
        "room_name": "somebody-elses-room",
        "participant_identity": "rahim",
        "participant_attributes": {"voice.customer": "user:admin", "lk.agent.name": "voicectl"},
        "participant_metadata": "x",
        "room_config": {"max_participants": 99, "agents": [{"agent_name": "assistant", "metadata": "evil"}]},
    }

    token = claims(client.post("/api/token", json=wanted))

    assert token["video"]["room"] != "somebody-elses-room"
    assert token["attributes"]["voice.customer"] == "demo:rahim"
    assert "lk.agent.name" not in token["attributes"]
    assert token["roomConfig"]["maxParticipants"] == 1
    assert token["video"]["canPublishSources"] == ["microphone"]
    assert "canUpdateOwnMetadata" not in token["video"]
    assert "roomAdmin" not in token["video"]
    assert token["exp"] - time.time() <= 301


def test_an_unknown_desk_is_refused_with_the_list(client: TestClient) -> None:
    answer = client.post("/api/token", json={"room_config": {"agents": [{"agent_name": "nope"}]}})

    assert answer.status_code == 404
    assert "assistant" in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b'{"participant_identity": 7}', 422),
        (b'{"participant_identity": "' + b"x" * 300 + b'"}', 422),
        (b'{"participant_identity": "12345678"}', 400),
        (b'{"pad": "' + b"x" * 20_000 + b'"}', 413),
    ],
)
def test_a_malformed_or_huge_request_gets_words_and_a_4xx(client: TestClient, content: bytes, status: int) -> None:
    answer = client.post("/api/token", content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code == status
    assert answer.json()["error"]


def test_nobody_in_particular_is_anonymous_and_never_the_same(client: TestClient) -> None:
    one, two = (claims(client.post("/api/token", json={})) for _ in range(2))

    assert one["attributes"]["voice.customer"].startswith("anon:")
    assert one["attributes"]["voice.customer"] != two["attributes"]["voice.customer"]


def test_when_all_lines_are_busy_the_customer_is_told_and_when_to_try_again(tmp_path: Path) -> None:
    leases = open_leases(load(VoiceSettings, home=tmp_path / "home"))
    leases.claim("worker:w1", json.dumps({"capacity": 1, "build": "b", "pid": 1}), 60, LeaseState.HELD)
    leases.claim("room:r1", "agent-1", 60, LeaseState.HELD)

    with client_for(tmp_path) as client:
        answer = client.post("/api/token", json={"participant_identity": "rahim"})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "busy" in answer.json()["error"]


class TestJwt:
    KEY = "k" * 40

    @pytest.fixture
    def client(self, tmp_path: Path) -> Iterator[TestClient]:
        with client_for(tmp_path, auth="jwt", jwt_key=self.KEY) as made:
            yield made

    def ask(self, client: TestClient, key: str, **extra: object):
        bearer = jwt.encode({"sub": "42", "exp": time.time() + 60, **extra}, key, algorithm="HS256")
        return client.post(
            "/api/token", json={"participant_identity": "user:1"}, headers={"Authorization": f"Bearer {bearer}"}
        )

    def test_the_customer_is_the_tokens_subject_not_what_is_claimed(self, client: TestClient) -> None:
        token = claims(self.ask(client, self.KEY, name="Rahim"))

        assert token["attributes"] == {"voice.customer": "user:42", "voice.name": "Rahim"}

    @pytest.mark.parametrize(
        ("subject", "customer"),
        [
            ("+880 1712-345678", "+8801712345678"),
            ("user:Anna", "user:anna"),
            ("1712345678", "user:1712345678"),
            ("demo:x", "user:demo:x"),
        ],
    )
    def test_a_number_vouched_for_is_the_customer_who_telephones(
        self, client: TestClient, subject: str, customer: str
    ) -> None:
        assert claims(self.ask(client, self.KEY, sub=subject))["attributes"]["voice.customer"] == customer

    def test_a_wrong_key_an_expired_or_a_missing_token_is_refused(self, client: TestClient) -> None:
        assert self.ask(client, "x" * 40).status_code == 401
        assert self.ask(client, self.KEY, exp=time.time() - 60).status_code == 401
        assert client.post("/api/token", json={"participant_identity": "user:1"}).status_code == 401


def test_html_is_never_kept_and_the_page_may_load_nothing_foreign(client: TestClient) -> None:
    answer = client.get("/api/about")

    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "ws://127.0.0.1:1" in answer.headers["content-security-policy"]


def test_ready_names_what_is_missing_and_alive_does_not_depend_on_it(client: TestClient) -> None:
    ready = client.get("/readyz")

    assert ready.status_code == 503
    assert {"livekit", "llm", "worker"} <= ready.json()["missing"].keys()
    assert client.get("/healthz").status_code == 200


def test_a_foreign_name_for_this_machine_gets_nothing(client: TestClient) -> None:
    assert client.post("/api/token", json={}, headers={"Host": "evil.example"}).status_code == 400
    assert client.post("/api/token", json={}, headers={"Host": "localhost:9000"}).status_code == 201


def test_the_figures_are_in_prometheus_format(client: TestClient, tmp_path: Path) -> None:
    leases = open_leases(load(VoiceSettings, home=tmp_path / "home"))
    leases.claim("worker:w1", json.dumps({"capacity": 3, "build": "b", "pid": 1}), 60, LeaseState.HELD)
    leases.claim("room:r1", "agent-1", 60, LeaseState.HELD)

    lines = client.get("/metrics").text.splitlines()

    assert {"voice_calls 1.0", "voice_workers 1.0", "voice_capacity 3.0", "voice_store_up 1.0"} <= set(lines)
