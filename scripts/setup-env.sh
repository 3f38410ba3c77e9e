#!/bin/sh
# Make .venv with everything that `make smoke` and `make test` need; do nothing where it is up to date.
#
#   scripts/setup-env.sh            make or refresh it
#   scripts/setup-env.sh --check    exit 1 where it is missing or out of date
#
# VENV     where (default .venv)            PYTHON   the Python to build it on (default python3, 3.11 to 3.13)
# UV_TORCH_BACKEND=auto                     lets uv choose torch's CUDA build by the driver
set -eu
cd "$(dirname "$0")/.."
say() { printf 'setup: %s\n' "$*" >&2; }

VENV=${VENV:-.venv}
BASE=${PYTHON:-python3}
want=$(cat pyproject.toml constraints.txt scripts/setup-env.sh | cksum)
stamp="$VENV/.stamp"
[ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0
[ "${1:-}" != --check ] || { say "$VENV is missing or out of date; \`make env\` brings it up to date"; exit 1; }
rm -f "$stamp"

"$BASE" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
  { say "$BASE is not Python 3.11, 3.12 or 3.13; name one with PYTHON=/path/to/python make env"; exit 1; }
BASE=$("$BASE" -c 'import sys; print(sys.executable)')  # uv is slow, and warns, where python3 is a shim
UV=$(command -v uv || true)

if [ ! -x "$VENV/bin/python" ]; then
  say "making $VENV with $BASE"
  if [ -n "$UV" ]; then "$UV" venv -q --python "$BASE" "$VENV"
  elif "$BASE" -m pip --version >/dev/null 2>&1; then "$BASE" -m venv --without-pip "$VENV"  # seconds faster
  else "$BASE" -m venv "$VENV"; fi
fi
PY="$VENV/bin/python"
pip() { if "$PY" -m pip --version >/dev/null 2>&1; then "$PY" -m pip "$@"; else "$BASE" -m pip --python "$PY" "$@"; fi; }

if [ -z "$UV" ]; then
  [ -x "$VENV/bin/uv" ] || { say "fetching uv, which installs the rest in seconds"; pip install -q -c constraints.txt uv || say "no uv to be had: going on with pip, which takes about two minutes"; }
  [ ! -x "$VENV/bin/uv" ] || UV="$VENV/bin/uv"
fi

backend=
if [ -n "$UV" ]; then
  # uv reads none of pip's settings. An extra index is left out on purpose: uv takes a package from the first
  # index that has it, so a CUDA torch there would win over the CPU build among the links.
  get() { pip config get ":env:.$1" 2>/dev/null || pip config get "global.$1" 2>/dev/null || pip config get "install.$1" 2>/dev/null || true; }
  [ -n "${UV_FIND_LINKS:-}" ] || { v=$(get find-links | tr -s ' \n' ',,' | sed 's/^,*//;s/,*$//'); [ -z "$v" ] || export UV_FIND_LINKS="$v"; }
  [ -n "${UV_DEFAULT_INDEX:-}" ] || { v=$(get index-url); [ -z "$v" ] || export UV_DEFAULT_INDEX="$v"; }
  [ -n "${SSL_CERT_FILE:-}" ] || { v=$(get cert); [ -z "$v" ] || export SSL_CERT_FILE="$v"; }
  # No GPU, and what resolves would bring CUDA (a dry run of half a second): ask for the CPU build.
  if [ -z "${UV_TORCH_BACKEND:-}" ] && ! command -v nvidia-smi >/dev/null 2>&1 &&
    "$UV" pip install --python "$PY" --dry-run -c constraints.txt torch 2>&1 | grep -q '^ + nvidia-'; then backend=--torch-backend=cpu; fi
fi

say "installing what constraints.txt pins"
inst() { "$UV" pip install -q --python "$PY" -c constraints.txt "$@" -e '.[dev,hub]'; }
if [ -z "$UV" ]; then pip install -q -c constraints.txt -e '.[dev,hub]'
elif [ -n "$backend" ]; then inst "$backend" || { say "no CPU-only torch to be had: taking the default build (several GB)"; inst; }
else inst; fi
printf '%s\n' "$want" >"$stamp"
say "$VENV is ready"
