#!/bin/sh
# The one command: brings the Python environment up to the lock file and hands over to `voicectl restart`, which
# installs what else is missing, starts everything, and returns when a call can be taken. Options are passed on:
#     ./restart_voice_system.sh --help
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$root"

uv=$(sh tools/uv.sh)

# The value of a setting, from the environment or the dotenv file, where the last one counts; without quotes, spaces and
# comments. Only asked to choose extras; voicectl does the reading.
value_of() {
    eval "value=\${$1:-}"
    file=${VOICE_ENV_FILE:-$root/.env}
    if [ -z "$value" ] && [ -f "$file" ]; then
        value=$(sed -n "s/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}$1[[:space:]]*=//p" "$file" |
            sed -n -e 's/^[[:space:]]*#.*//' -e 's/[[:space:]]#.*//' -e "s/[\"'[:space:]]//g" -e '$p')
    fi
    printf '%s' "$value"
}

is_set() { [ -n "$(value_of "$1")" ]; }

all_remote() {
    for option in "$@"; do [ "$option" = --local ] && return 1; done
    case $(value_of VOICE_LOCAL) in 1* | [TtYy]* | [Oo][Nn]*) return 1 ;; esac
    is_set DEEPGRAM_API_KEY && is_set CARTESIA_API_KEY && { is_set OPENAI_API_KEY || is_set OPENAI_BASE_URL; }
}

extras="--extra letta"
if all_remote "$@"; then
    echo "Speech and language come from the providers whose keys are set; nothing of it is installed here." >&2
else
    echo "Speech on this machine uses piper-tts and espeak-ng: GPL-3.0-or-later (not part of the base install)." >&2
    extras="$extras --extra local --extra test-speech"
fi

case $(value_of MEMORY_DATABASE_URL)$(value_of DATABASE_URL) in
    postgres*) extras="$extras --extra postgres" ;;
esac

began=$(date +%s)
# shellcheck disable=SC2086  # the extras are words
"$uv" sync --locked --no-dev --inexact $extras || {
    echo "The Python environment could not be brought up to uv.lock. Check the network and HTTPS_PROXY, then try again." >&2
    exit 1
}
echo "  python environment  ready $(($(date +%s) - began)) s, $(du -sh .venv | cut -f1) on disk" >&2

exec "$root/.venv/bin/voicectl" restart "$@"
