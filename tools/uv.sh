#!/bin/sh
# Prints the path of a uv to use: on PATH, in ~/.local/bin, or the pinned one in .tools/uv, which is made when neither
# is there. Used by restart_voice_system.sh and the Makefile. Never installs into a Python that is not its own.
set -eu

VERSION=0.13.8
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
own="$root/.tools/uv/bin/uv"

works() { "$1" --version >/dev/null 2>&1; }

for candidate in "$(command -v uv 2>/dev/null || true)" "$HOME/.local/bin/uv" "$own"; do
    if [ -n "$candidate" ] && works "$candidate"; then
        printf '%s\n' "$candidate"
        exit 0
    fi
done

# A venv of our own: allowed on Debian's externally managed Python too, and removed with the folder.
for python in python3 python3.13 python3.12 python3.11 python; do
    command -v "$python" >/dev/null 2>&1 || continue
    echo "uv is not here; installing uv $VERSION into $root/.tools/uv" >&2
    # Made beside its place and moved there whole: a script that was killed may still be writing its own.
    draft="$root/.tools/uv.$$"
    if "$python" -m venv "$draft" >&2 && "$draft/bin/python" -m pip install --quiet "uv==$VERSION" >&2 \
        && works "$draft/bin/uv"; then
        rm -rf "$root/.tools/uv"
        mv "$draft" "$root/.tools/uv"
        printf '%s\n' "$own"
        exit 0
    fi
    rm -rf "$draft"
done

cat >&2 <<'END'
No uv on this machine, and none could be installed into a virtual environment (on Debian that needs the package
python3-venv). Install uv with its publisher's installer, then try again:
    curl -LsSf https://astral.sh/uv/install.sh | sh
END
exit 1
