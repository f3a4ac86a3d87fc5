# SPDX-License-Identifier: Apache-2.0
# Sourced, in the repository's root: sets `python` to one that has requirements.txt, in a virtual environment that is made at
# the first use in build/peers/venv. TENON_PEERS_VENV names one that is there already.
venv=${TENON_PEERS_VENV:-build/peers/venv}
if [[ -z ${TENON_PEERS_VENV-} ]] && ! cmp -s benchmarks/peers/requirements.txt "$venv/made_from.txt"; then
  echo "Making a virtual environment in $venv"
  mkdir -p build/peers
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
  cp benchmarks/peers/requirements.txt "$venv/made_from.txt"
fi
python=$venv/bin/python
