#!/bin/sh
# Coq and MathComp from Debian where this user may install them; else say what is missing. Never fails.
mathcomp() { [ -d "$(coqc -where 2>/dev/null)/user-contrib/mathcomp/algebra" ]; }
command -v coqc >/dev/null 2>&1 && mathcomp && exit 0
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then as=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as="sudo -n"
    else as=no; fi
    if [ "$as" != no ]; then
        echo "setup: Coq and MathComp from Debian" >&2
        $as apt-get update -qq >/dev/null 2>&1
        DEBIAN_FRONTEND=noninteractive $as apt-get install -y -qq coq libcoq-mathcomp-algebra >/dev/null 2>&1 && exit 0
    fi
fi
echo "setup: Coq is missing and could not be installed here; the proofs will not be checked. Install it with: apt-get install coq libcoq-mathcomp-algebra" >&2
exit 0
