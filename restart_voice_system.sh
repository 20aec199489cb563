#!/bin/sh
# The one command: brings the Python environment up to the lock file and hands over to `voicectl restart`, which
# installs what else is missing, starts everything, and returns when a call can be taken. Options are passed on:
#     ./restart_voice_system.sh --help
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$root"

uv=$(sh tools/uv.sh)

# Is a setting made, in the environment or in the dotenv file? Only asked to choose extras; voicectl does the reading.
is_set() {
    eval "value=\${$1:-}"
    [ -n "$value" ] && return 0
    file=${VOICE_ENV_FILE:-$root/.env}
    [ -f "$file" ] && grep -Eq "^[[:space:]]*(export[[:space:]]+)?$1=[\"']?[^\"'[:space:]]" "$file"
}

all_remote() {
    for option in "$@"; do [ "$option" = --local ] && return 1; done
    is_set DEEPGRAM_API_KEY && is_set CARTESIA_API_KEY && { is_set OPENAI_API_KEY || is_set OPENAI_BASE_URL; }
}

extras="--extra letta"
if all_remote "$@"; then
    echo "Speech and language come from the providers whose keys are set; nothing of it is installed here." >&2
else
    echo "Speech on this machine uses piper-tts and espeak-ng: GPL-3.0-or-later (not part of the base install)." >&2
    extras="$extras --extra local --extra test-speech"
fi

began=$(date +%s)
# shellcheck disable=SC2086  # the extras are words
"$uv" sync --locked --no-dev --inexact $extras || {
    echo "The Python environment could not be brought up to uv.lock. Check the network and HTTPS_PROXY, then try again." >&2
    exit 1
}
echo "  python environment  ready $(($(date +%s) - began)) s, $(du -sh .venv | cut -f1) on disk" >&2

exec "$root/.venv/bin/voicectl" restart "$@"
