# shellcheck shell=bash
# Debian packages on demand, for scripts a user runs on a fresh machine. Source it, then:
#
#   ensure_packages PKG...    returns 0 when all are there, 2 when they cannot be had
#   has_package PKG           is it installed?
#
# Silent when nothing is missing. All it says goes to stderr: a script's stdout is its result.

has_package() {
  [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

ensure_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    # Nobody's names but Debian's are known here; the build itself will name what is really missing.
    printf 'Not a Debian system: make sure that these are installed, by whatever name: %s\n' "$*" >&2
    return 0
  fi

  local missing=() package
  for package in "$@"; do
    has_package "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  local as_root=()
  if ((EUID != 0)); then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      printf 'Missing packages, and no right to install them; run: sudo apt-get update && sudo apt-get install -y %s\n' \
        "${missing[*]}" >&2
      return 2
    fi
  fi

  printf 'Installing missing Debian packages: %s\n' "${missing[*]}" >&2
  local log updated=no
  log="$(mktemp)"
  # A fresh image has no package lists at all, and old lists name versions that the mirror no longer
  # has: the first shows before an install is tried, the second only when it fails.
  if ! apt-cache show "${missing[@]}" >/dev/null 2>&1; then
    updated=yes
    _packages_apt update || true
  fi
  if ! _packages_apt install "${missing[@]}"; then
    if [[ $updated == yes ]] || ! { _packages_apt update && _packages_apt install "${missing[@]}"; }; then
      tail -n 20 "$log" >&2
      printf 'Could not install; to see why, run: sudo apt-get install --no-install-recommends %s\n' "${missing[*]}" >&2
      rm -f "$log"
      return 2
    fi
  fi
  rm -f "$log"
}

# Sees as_root and log of its caller. The lock timeout lets two scripts that install at once take turns.
_packages_apt() {
  local action=$1
  shift
  if [[ $action == install ]]; then
    set -- --no-install-recommends "$@"
    # A package that cannot be had beside those of the user is not had.
    _packages_removes_leftovers_only "$@" || set -- --no-remove "$@"
    set -- -y "$@"
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -o DPkg::Lock::Timeout=300 "$action" "$@" </dev/null >"$log" 2>&1
}

# Would an install with these arguments remove something, and only what came along with packages that
# are gone? Such a rest of clang 14's libc++ stands in the way of a newer one.
_packages_removes_leftovers_only() {
  local removed leftovers package
  removed=$(_packages_would_remove install "$@")
  [[ -n $removed ]] || return
  leftovers=$(_packages_would_remove autoremove)
  for package in $removed; do
    [[ " $leftovers " == *" $package "* ]] || return
  done
  printf 'Removing first what is in their way and, says apt, needed by nothing: %s\n' "$removed" >&2
}

_packages_would_remove() { LC_ALL=C apt-get -s "$@" 2>/dev/null | sed -n 's/^Remv \([^ ]*\).*/\1/p' | paste -s -d ' '; }
