#!/bin/sh
# Makes the virtual environment that a make target needs: `tools/setup.sh run|dev VENV`.
# Everything comes pinned by hash from requirements/*.lock; nothing outside VENV is touched, except that
# a Debian without Python or its venv module gets them from Debian itself when we may (root), and a sentence when not.
# PYTHON=... chooses the interpreter; otherwise it is the first of python3.11, 3.12, 3.13 and python3 that will do.
set -eu
kind=$1
venv=$2
cd "$(dirname "$0")/.."

stamp="$venv/.stamp-$kind"
# A checkout that was moved, and another PYTHON, want a new one too.
wanted=$({ pwd; cat "requirements/$kind.lock" pyproject.toml tools/setup.sh; } | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    if [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" --version 2>&1)" = "$("$venv/bin/python" --version)" ]; then
        exit 0
    fi
fi

debian() { # debian PACKAGE...: gets packages from Debian where we may; its chatter is shown only if that fails
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    echo "setup: apt-get install $*" >&2
    export DEBIAN_FRONTEND=noninteractive
    if ! chatter=$({ apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } 2>&1); then
        echo "$chatter" >&2
        return 1
    fi
}

python=
if [ -n "${PYTHON:-}" ] && ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "setup: PYTHON=$PYTHON is no Python 3.11 or later." >&2
    exit 1
fi
for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ] && debian python3 python3-venv && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=python3
fi
if [ -z "$python" ]; then
    echo "setup: Python 3.11 or later is needed; install it (Debian: apt install python3 python3-venv) or set PYTHON." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if ! debian python3-venv || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "setup: $python lacks the venv module; install it (Debian: apt install python3-venv)." >&2
        exit 1
    fi
fi

echo "setup: making $venv ($("$python" --version), requirements/$kind.lock)" >&2
"$python" -m venv --clear "$venv"
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "requirements/$kind.lock" >&2; then
    echo "setup: the packages of requirements/$kind.lock could not be fetched; pip says why above. Run make again when that is mended." >&2
    exit 1
fi
if [ "$kind" = dev ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
else
    # The checkout itself is on the path, so that `make broker` always runs the code that lies here.
    "$venv/bin/python" - <<'PY'
import pathlib
import sysconfig

site = pathlib.Path(sysconfig.get_paths()["purelib"])
(site / "barnabas-checkout.pth").write_text(f"{pathlib.Path('src').resolve()}\n")
PY
fi
# Bytecode is written once here, so that the first start is as quick as every other.
"$venv/bin/python" -m compileall -q src "$venv/lib" >/dev/null 2>&1 || true
echo "$wanted" >"$stamp"
