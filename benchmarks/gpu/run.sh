#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a machine with an NVIDIA GPU: builds, runs the tests of a device, measures it, measures PEFT on it, and looks for bad
# accesses and races. In less than eight minutes, with no more than nvcc, g++, CMake and make or ninja; no network.
#   benchmarks/gpu/run.sh FOLDER [--tiny]      FOLDER gets logs, ours.json, theirs.json and summary.txt, which it prints last
# What is missing (python3 with torch and peft, compute-sanitizer) is said and left out. The build is build/gpu, or
# TENON_BUILD_DIR; TENON_GPU=OMP or CPP tries the script where there is no GPU; PYTHON and TENON_JOBS as they say.
set -uo pipefail
start=$SECONDS
limit=470 # seconds in all
[[ $# -ge 1 && $# -le 2 && ${2:---tiny} == --tiny ]] || { echo "usage: run.sh FOLDER [--tiny]" >&2; exit 2; }
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
tiny=(${2:+"$2"})
cd "$(dirname "$0")/../.."
build=${TENON_BUILD_DIR:-build/gpu}
system=${TENON_GPU:-CUDA}
python=${PYTHON:-python3}
tests=tenon_device_$(tr '[:upper:]' '[:lower:]' <<<"$system")_tests
: >"$out/summary.txt"
failed=0

say() { echo "$*" | tee -a "$out/summary.txt"; }
fail() { say "FAILED: $*"; failed=1; }
# at_most SECONDS COMMAND...: it is ended after so many, or when the time of all is up; 124 then
at_most() {
  local most=$1 left=$((limit - (SECONDS - start)))
  shift
  ((left > 5)) || return 124
  timeout -k 5 $((most < left ? most : left)) "$@"
}

# --- build: the tests' sources and the device's code beside each other
configure=(-DTENON_GPU="$system" -DTENON_BARE_TESTS=ON -DTENON_BUILD_TESTS=ON -DTENON_BUILD_BENCHMARKS=ON -DTENON_BUILD_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Release)
if [[ $system == CUDA ]]; then
  if ! command -v nvcc >/dev/null && [[ -x /usr/local/cuda/bin/nvcc ]]; then export PATH=/usr/local/cuda/bin:$PATH; fi
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -cd 0-9)
  configure+=(-DCMAKE_CUDA_ARCHITECTURES="${architecture:-80;90}") # unknown: as cmake/tenon_gpu.cmake has them
  say "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"); nvcc $(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
fi
if command -v ninja >/dev/null; then configure+=(-G Ninja); fi
if ! at_most 60 cmake -S . -B "$build" "${configure[@]}" >"$out/build.log" 2>&1; then
  tail -n 20 "$out/build.log"
  fail "configuring; see build.log"
  exit 1
fi
targets=(bench_gpu)
if cmake --build "$build" --target help | grep -qw "$tests"; then targets+=("$tests"); fi
at_most 270 cmake --build "$build" -j "${TENON_JOBS:-$(nproc)}" --target "${targets[@]}" -- -k $([[ -f $build/build.ninja ]] && echo 0) >>"$out/build.log" 2>&1
built=$?
say "built in $((SECONDS - start)) s"
if ((built != 0)); then
  grep -E "error|Error|FAILED" "$out/build.log" | head -n 20
  fail "building; see build.log"
fi
test_program=$(find "$build" -name "$tests" -type f | head -n 1)
bench=$build/bench_gpu

# --- tests
if [[ -n $test_program ]]; then
  at_most 100 "$test_program" >"$out/tests.log" 2>&1
  code=$?
  grep -E "^FAILED|^\[doctest\]|^open a device" "$out/tests.log" | tail -n 40 | tee -a "$out/summary.txt"
  ((code == 0)) || fail "$tests left with $code (124: its time was up); see tests.log"
else
  say "tests: not run: no program $tests"
fi

# --- figures, the GPU being idle otherwise
rm -f "$out/ours.json" "$out/theirs.json"
if [[ -x $bench ]]; then
  at_most 200 "$bench" "${tiny[@]}" --json "$out/ours.json" 2>"$out/bench.log" | tee -a "$out/summary.txt"
  code=${PIPESTATUS[0]}
  ((code == 0)) || { tail -n 5 "$out/bench.log"; fail "bench_gpu left with $code (124: its time was up); see bench.log"; }
fi
on_gpu=()
[[ $system == CUDA ]] || on_gpu=(--device cpu)
at_most 120 "$python" benchmarks/gpu/theirs.py "$out/theirs.json" "${on_gpu[@]}" "${tiny[@]}" >>"$out/bench.log" 2>&1
code=$?
case $code in
  0) ;;
  77) say "$(tail -n 1 "$out/bench.log")" ;;
  *) tail -n 5 "$out/bench.log"; say "PEFT: left with $code (124: its time was up); see bench.log" ;;
esac
if command -v "$python" >/dev/null; then
  "$python" benchmarks/gpu/compare.py "$out/ours.json" "$out/theirs.json" | tee -a "$out/summary.txt"
fi

# --- bad accesses, and races in shared memory, in the tests of what uses it, for as long as there is time
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
: >"$out/sanitizers.log"
check() { # check TOOL SECONDS FILTERS [OPTION...]
  local code found
  at_most "$2" "$sanitizer" --tool "$1" "${@:4}" --error-exitcode 9 "$test_program" --test-case="$3" >"$out/$1.part" 2>&1
  code=$?
  found=$(grep -cE "^========= .*(Invalid|hazard|Error:|Program hit|Misaligned|Race reported)" "$out/$1.part")
  cat "$out/$1.part" >>"$out/sanitizers.log"
  rm "$out/$1.part"
  case $code in
    0) say "compute-sanitizer $1: nothing found" ;;
    124) say "compute-sanitizer $1: $found findings before its time was up" ;;
    *) fail "compute-sanitizer $1 left with $code, $found findings; see sanitizers.log" ;;
  esac
}
if [[ $system != CUDA || -z $sanitizer || -z $test_program ]]; then
  say "compute-sanitizer: not run: $([[ $system == CUDA ]] && echo "it, or the tests, are not there" || echo "no GPU")"
else
  check memcheck 60 "*merge*,*term*,*linear*,*lane*,*norm*,*attention*,guards*" --report-api-errors no # a refusal is what some tests are about
  check racecheck 60 "*merge*,*term*,*norm*,*attention*,*softmax*"
fi

say "in all $((SECONDS - start)) s"
exit $failed
