"""Our wheel beside somebody else's project: every name of ours is under one import root; nothing is shadowed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    uv = subprocess.run([ROOT / "tools" / "uv.sh"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([uv, "build", "--wheel", "--out-dir", folder, ROOT], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_one_top_level_name_and_its_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"voicectl"}
    assert "voicectl/py.typed" in names
    assert any(n.startswith("voicectl/memory/store/migrations/versions/") for n in names)


def test_a_project_with_its_own_cli_and_memory_imports_both_worlds(wheel: Path, tmp_path: Path) -> None:
    installed, project = tmp_path / "site", tmp_path / "project"
    zipfile.ZipFile(wheel).extractall(installed)
    for name in ("cli", "memory", "voice"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text(f"WHOSE = 'the project: {name}'")
    script = (
        "import cli, memory, voice, voicectl.cli.main, voicectl.memory.store, voicectl.voice.call\n"
        "print(cli.WHOSE, memory.WHOSE, voice.WHOSE, voicectl.memory.__file__, sep='|')"
    )

    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path[:0] = [{str(project)!r}, {str(installed)!r}]\n{script}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    *theirs, ours = done.stdout.strip().split("|")
    assert theirs == ["the project: cli", "the project: memory", "the project: voice"]
    assert ours.startswith(str(installed))
