"""The two shell scripts, with uv, Python and voicectl played, so that every branch is run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ("sh", "dirname", "rm", "date", "du", "cut", "sed", "cat", "mv", "env", "mkdir", "chmod")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with only the scripts, in a folder with a space, and a bin folder with the ordinary tools."""
    root = tmp_path / "check out"
    (root / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "restart_voice_system.sh", root)
    shutil.copy(ROOT / "tools" / "uv.sh", root / "tools")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    program(root / ".venv" / "bin" / "voicectl", 'echo "voicectl $*"')
    return root


def run(checkout: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    home = checkout.parent / "user"
    return subprocess.run(
        [checkout / script, *words],
        env={"PATH": str(checkout.parent / "bin"), "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_uv_on_path_is_used(checkout: Path) -> None:
    uv = program(checkout.parent / "bin" / "uv", "exit 0")

    assert run(checkout, "tools/uv.sh").stdout.strip() == str(uv)


def test_uv_in_the_users_folder_is_used(checkout: Path) -> None:
    uv = program(checkout.parent / "user" / ".local" / "bin" / "uv", "exit 0")

    assert run(checkout, "tools/uv.sh").stdout.strip() == str(uv)


# A python whose own environment is externally managed: all it can do is make a venv, whose pip then installs uv.
PYTHON = r"""
[ "$1 $2" = "-m venv" ] || exit 9
mkdir -p "$3/bin"
cat > "$3/bin/python" <<'END'
#!/bin/sh
echo "$*" > "$(dirname "$0")/../asked"
printf '#!/bin/sh\n' > "$(dirname "$0")/uv"
chmod 755 "$(dirname "$0")/uv"
END
chmod 755 "$3/bin/python"
"""


def test_without_uv_the_pinned_one_goes_into_a_venv_of_its_own_and_stays(checkout: Path) -> None:
    own = checkout / ".tools" / "uv"
    program(checkout.parent / "bin" / "python3", PYTHON)

    first = run(checkout, "tools/uv.sh")
    program(checkout.parent / "bin" / "python3", "exit 9")
    second = run(checkout, "tools/uv.sh")

    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == second.stdout.strip() == str(own / "bin" / "uv")
    assert "pip install --quiet uv==0.13.8" in (own / "asked").read_text()


def test_a_script_that_was_killed_and_still_writes_does_not_spoil_the_next_one(checkout: Path) -> None:
    own = checkout / ".tools" / "uv"
    # venv refuses a folder that another one is filling, as ensurepip does when its files vanish.
    program(checkout.parent / "bin" / "python3", '[ "$3" != "' + str(own) + '" ] || exit 1\n' + PYTHON)
    (own / "bin").mkdir(parents=True)
    (own / "bin" / "python").write_text("half")

    done = run(checkout, "tools/uv.sh")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(own / "bin" / "uv")
    assert [p.name for p in (checkout / ".tools").iterdir()] == ["uv"]


def test_when_no_uv_can_be_had_the_publishers_installer_is_named_and_nothing_is_left(checkout: Path) -> None:
    program(checkout.parent / "bin" / "python3", "exit 1")

    done = run(checkout, "tools/uv.sh")

    assert done.returncode == 1
    assert "https://astral.sh/uv/install.sh" in done.stderr
    assert not (checkout / ".tools" / "uv").exists()


def test_the_script_syncs_the_lock_file_and_hands_its_options_over(checkout: Path) -> None:
    program(checkout.parent / "bin" / "uv", 'echo "uv $*" >&2')

    done = run(checkout, "restart_voice_system.sh", "--no-letta", "--all")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "voicectl restart --no-letta --all\n"
    assert "uv sync --locked" in done.stderr
    assert "--extra letta --extra local" in done.stderr
    assert "GPL-3.0" in done.stderr


KEYS = {"DEEPGRAM_API_KEY": "d", "CARTESIA_API_KEY": "c", "OPENAI_API_KEY": "o"}


def test_with_all_keys_no_local_engine_is_installed_unless_asked_for(checkout: Path) -> None:
    program(checkout.parent / "bin" / "uv", 'echo "uv $*" >&2')

    keyed = run(checkout, "restart_voice_system.sh", **KEYS)
    local = run(checkout, "restart_voice_system.sh", "--local", **KEYS)

    assert "--extra local" not in keyed.stderr
    assert "GPL" not in keyed.stderr
    assert "--extra local" in local.stderr


def test_keys_in_the_dotenv_file_count_and_empty_ones_do_not(checkout: Path) -> None:
    program(checkout.parent / "bin" / "uv", 'echo "uv $*" >&2')
    (checkout / ".env").write_text("DEEPGRAM_API_KEY=d\nexport CARTESIA_API_KEY='c'\nOPENAI_API_KEY=o\n")
    assert "--extra local" not in run(checkout, "restart_voice_system.sh").stderr

    (checkout / ".env").write_text("DEEPGRAM_API_KEY=\nCARTESIA_API_KEY=c\n#OPENAI_API_KEY=o\n")
    assert "--extra local" in run(checkout, "restart_voice_system.sh").stderr


def extras(checkout: Path, **environment: str) -> str:
    return run(checkout, "restart_voice_system.sh", **environment).stderr


def test_a_choice_for_this_machine_beats_keys_and_odd_lines_are_read_as_voicectl_reads_them(checkout: Path) -> None:
    program(checkout.parent / "bin" / "uv", 'echo "uv $*" >&2')
    assert "--extra local" in extras(checkout, VOICE_LOCAL="true", **KEYS)
    assert "--extra local" not in extras(checkout, VOICE_LOCAL="0", **KEYS)

    dotenv = checkout / ".env"
    dotenv.write_bytes(b'DEEPGRAM_API_KEY = "d"\r\nCARTESIA_API_KEY=c # theirs\r\nOPENAI_API_KEY=o\r\n')
    assert "--extra local" not in extras(checkout)
    dotenv.write_bytes(b"DEEPGRAM_API_KEY=d\nDEEPGRAM_API_KEY=\nCARTESIA_API_KEY=c\nOPENAI_API_KEY=o\n")
    assert "--extra local" in extras(checkout)  # the last one of a name counts
    dotenv.write_bytes(b"DEEPGRAM_API_KEY= # later\r\nCARTESIA_API_KEY=''\r\nOPENAI_API_KEY=o\r\n")
    assert "--extra local" in extras(checkout)


def test_a_postgresql_store_brings_its_driver(checkout: Path) -> None:
    program(checkout.parent / "bin" / "uv", 'echo "uv $*" >&2')
    assert "--extra postgres" not in extras(checkout)
    assert "--extra postgres" in extras(checkout, DATABASE_URL="postgresql://u:p@h/d")

    (checkout / ".env").write_text("MEMORY_DATABASE_URL='postgresql://u:p@h/d'\n")
    assert "--extra postgres" in extras(checkout)


def test_when_the_environment_cannot_be_synced_nothing_is_started(checkout: Path) -> None:
    program(checkout.parent / "bin" / "uv", '[ "$1" = --version ]')

    done = run(checkout, "restart_voice_system.sh")

    assert done.returncode == 1
    assert "voicectl" not in done.stdout
    assert "HTTPS_PROXY" in done.stderr
