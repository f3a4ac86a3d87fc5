# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts that a user runs first: what they need on a fresh Debian machine, installed on request.

# need_packages "why" package...
# Notes the packages that are not installed; `install_packages` then gets them all at once.
declare -A missing_packages=()
need_packages() {
  local why=$1 package
  shift
  command -v dpkg-query >/dev/null || return 0 # not Debian: the compiler will say what it misses
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing_packages[$package]=$why
  done
}

# Installs what was noted. Leaves with 3, and the list, where it may not: no root, or TENON_NO_INSTALL=1.
install_packages() {
  ((${#missing_packages[@]} > 0)) || return 0
  local package apt=(env DEBIAN_FRONTEND=noninteractive apt-get)
  ((EUID == 0)) || apt=(sudo -n "${apt[@]}")
  echo "Missing packages:"
  for package in "${!missing_packages[@]}"; do
    printf '  %-22s %s\n' "$package" "${missing_packages[$package]}"
  done | sort
  if [[ ${TENON_NO_INSTALL:-0} == 1 ]] || ! { ((EUID == 0)) || sudo -n true 2>/dev/null; }; then
    echo "Install them with: sudo apt-get install ${!missing_packages[*]}"
    exit 3
  fi
  echo "Installing them with apt-get."
  "${apt[@]}" update -qq
  "${apt[@]}" install -y -qq --no-install-recommends --no-remove "${!missing_packages[@]}" >/dev/null
  missing_packages=()
}
