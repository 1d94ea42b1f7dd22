#!/usr/bin/env bash
# Runs browser tests against JupyterLab and Notebook of other versions, each in an environment of its own.
# Usage: scripts/test_lab_versions.sh [VERSION...], such as 4.2 4.5
set -euo pipefail
cd "$(dirname "$0")/.."
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(4.2 4.3 4.4 4.5)
tests='boot_is_shown or boot_and_resize or line_of_code or nothing_is_asked or gpu_rows or notebook_7'
failed=()
for version in "${versions[@]}"; do
  environment=.build/lab-$version
  [ -x "$environment/bin/jupyter-lab" ] || {
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet "jupyterlab==$version.*" "notebook==7.${version#4.}.*" msgspec psutil
  }
  echo "JupyterLab $("$environment/bin/jupyter-lab" --version), Notebook $("$environment/bin/jupyter-notebook" --version)"
  HELIOSTAT_LAB_PYTHON=$PWD/$environment/bin/python \
    .venv/bin/pytest --quiet -k "$tests" \
    tests/e2e/test_status_bar.py tests/e2e/test_panel.py tests/e2e/test_panel_places.py || failed+=("$version")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
