#!/bin/sh
# LaTeX and poppler from Debian where this user may install them; else say what is missing, and fail.
packages="latexmk texlive-latex-extra texlive-fonts-recommended texlive-science lmodern texlive-pictures poppler-utils"
missing() {
    for tool in latexmk pdflatex bibtex kpsewhich pdftotext; do
        command -v "$tool" >/dev/null 2>&1 || printf '%s ' "$tool"
    done
    command -v kpsewhich >/dev/null 2>&1 || return 0
    for file in mathpazo.sty xltabular.sty fvextra.sty siunitx.sty lmodern.sty tikz.sty; do
        kpsewhich "$file" >/dev/null 2>&1 || printf '%s ' "$file"
    done
}
[ -z "$(missing)" ] && exit 0
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then as=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as="sudo -n"
    else as=no; fi
    if [ "$as" != no ]; then
        echo "setup: LaTeX from Debian" >&2
        $as apt-get update -qq >/dev/null 2>&1
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive $as apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1
        [ -z "$(missing)" ] && exit 0
    fi
fi
echo "paper: expected LaTeX, got no $(missing | sed 's/ $//'); install it with: apt-get install $packages" >&2
exit 2
