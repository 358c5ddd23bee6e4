#!/usr/bin/env bash
# Get what tests/web needs: Chromium and Node.js from Debian's packages, the engine from the npm registry.
# Elsewhere than on Debian as root it takes what is there, and the tests skip what they lack.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
    else
        echo "missing here: ${missing[*]}; the tests that need them will skip" >&2
    fi
fi
if ! command -v npm >/dev/null; then
    exit 0
fi
python3 runtime/html/hatch_build.py
