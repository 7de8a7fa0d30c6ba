#!/bin/sh
# Chromium from Debian where this user may install it, for the tests of the static page. Never fails: they are skipped.
command -v chromium >/dev/null 2>&1 && exit 0
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then as=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as="sudo -n"
    else as=no; fi
    if [ "$as" != no ]; then
        echo "setup: Chromium from Debian" >&2
        $as apt-get update -qq >/dev/null 2>&1
        DEBIAN_FRONTEND=noninteractive $as apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 && exit 0
    fi
fi
echo "setup: Chromium is missing and could not be installed here; the page is not tested in a browser. Install it with: apt-get install chromium" >&2
exit 0
