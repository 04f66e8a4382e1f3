#!/usr/bin/env bash
# Sets up .venv with madbench and the packages that constraints.txt pins, with Python 3.12 or newer wherever it lies.
# The pins name what a CPU and the tests need; what else cuda, tpu and prepare bring is pip's choice.
# Usage: ./bootstrap.sh [EXTRA ...]     extras: test, cuda, tpu, prepare, tensorboard
# Run again, it does nothing unless setup.py, constraints.txt or the extras have changed.
set -euo pipefail
cd "$(dirname "$0")"

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in python3.12 python3.13 python3.14 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
    if new_enough "$candidate"; then echo "$candidate"; return; fi
  done
  echo "madbench needs Python 3.12 or newer; install it (for example: pyenv install 3.12) and run this again" >&2
  exit 2
}

wanted=$(cat setup.py constraints.txt | cksum)
stamp=.venv/.madbench
for extra in "$@"; do
  grep -qxF "$wanted $extra" "$stamp" 2>/dev/null || missing=1
done
if [ -n "${missing:-}" ] || ! grep -qF "$wanted" "$stamp" 2>/dev/null; then
  new_enough .venv/bin/python || "$(find_python)" -m venv --clear .venv
  extras=$(IFS=,; echo "$*")
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
    --editable ".${extras:+[$extras]}"
  { grep -F "$wanted" "$stamp" 2>/dev/null || true; printf '%s\n' "$wanted" "${@/#/$wanted }"; } >"$stamp.new"
  mv "$stamp.new" "$stamp"
fi
echo "madbench is ready: .venv/bin/madbench"
