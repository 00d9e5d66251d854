#!/usr/bin/env bash
# Everything that needs a GPU, in one go and in under ten minutes: builds the compiled parts from this source tree, runs
# the tests marked cuda and compute-sanitizer on the kernels, then the benchmarks. No network, no installation: it runs
# with the packages of the machine's python3 (torch with CUDA, numpy, pyarrow, transformers, timm, pytest, pybind11).
#
#   OUT=results bash benchmarks/gpu.sh            # JSON and logs into results/, a short table last
#   PARTS="build kernels" bash benchmarks/gpu.sh  # some of the parts; a failed part never stops the next one
#   DEVICE=cpu SMOKE=1 bash benchmarks/gpu.sh     # on a machine without a GPU: tiny sizes, to try the script itself
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
out=$(mkdir -p "${OUT:-gpu-results}" && cd "${OUT:-gpu-results}" && pwd)
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
smoke=${SMOKE:+--smoke}
deadline=$((SECONDS + ${BUDGET_S:-540}))
build=${BUILD:-$(mktemp -d)}
export PATH=$PATH:/usr/local/cuda/bin PYTHONPATH=$root/python:$root/benchmarks PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true
[ "$device" = cuda ] && export COLDPRESS_REQUIRE_CUDA=1
declare -A verdict

# part NAME SECONDS COMMAND...: runs a part within its time and what is left of all; keeps its log and its verdict
part() {
  local name=$1 limit=$2 begin=$SECONDS left=$((deadline - SECONDS))
  shift 2
  case " ${PARTS:-$* $name} " in *" $name "*) ;; *) return ;; esac
  [ "$left" -lt 10 ] && { verdict[$name]="not run: no time left"; return; }
  [ "$limit" -gt "$left" ] && limit=$left
  # an interrupt, not the end: what has been measured is still written
  LEFT_S=$((limit - 15)) timeout --signal=INT --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1
  local status=$?
  verdict[$name]="$([ $status = 0 ] && echo ok || echo "FAILED ($status)"), $((SECONDS - begin)) s"
  echo "== $name: ${verdict[$name]}"
  [ $status = 0 ] || tail -n 15 "$out/$name.log"
}

compile() {
  set -e
  cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCOLDPRESS_CUDA=ON -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)"
  cmake --build "$build" -j "$(nproc)"
  cp "$build"/_ops.so "$build"/_image*.so "$root/python/coldpress/"
  if [ -e "$build/_ops_cuda.so" ]; then cp "$build/_ops_cuda.so" "$root/python/coldpress/"; fi
  "$python" -c "from coldpress import _library; print(_library.compiled())"
  [ "$device" = cpu ] || "$python" -c "from coldpress import _library as l; assert l.compiled()['_ops_cuda'] == 'loaded', l.compiled()"
}

sanitize() { # memcheck finds accesses out of bounds, racecheck missing barriers; torch's own kernels are left alone
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed"; return 1; }
  local tool failed=0
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1  # each tensor its own allocation: what lies behind it is nobody's
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 --kernel-name kns=coldpress \
      "$python" benchmarks/gpu_sanitize.py || failed=1
  done
  return $failed
}
engine() { exec "$python" benchmarks/gpu_engine.py --device "$device" $smoke --json "$out/gpu_engine.json" --seconds "$LEFT_S"; }

tests() {
  local spread=
  "$python" -c 'import xdist' 2>/dev/null && spread="-n 8 --dist load"
  exec "$python" -m pytest -q -p no:cacheprovider -m cuda $spread tests/ops tests/engine tests/preprocess tests/models/test_conformance.py
}
export -f compile sanitize engine tests
export root build python device smoke out

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no GPU here"
part build ${BUILD_S:-150} bash -c compile
part engine 220 bash -c engine
part files 90 "$python" benchmarks/gpu_files.py --device "$device" $smoke --json "$out/gpu_files.json"
part kernels 45 "$python" benchmarks/gpu_kernels.py --device "$device" $smoke --json "$out/gpu_kernels.json"
part tests 170 bash -c tests
part sanitizer 90 bash -c sanitize

echo
for name in build engine files kernels tests sanitizer; do
  [ -n "${verdict[$name]:-}" ] && printf '%-10s %s\n' "$name" "${verdict[$name]}"
done
grep -hE '^(FAILED|ERROR)|passed|failed' "$out/tests.log" 2>/dev/null | tail -n 12
grep -h 'ERROR SUMMARY' "$out/sanitizer.log" 2>/dev/null
for name in kernels engine files; do sed -n '/^# table/,$p' "$out/$name.log" 2>/dev/null; done
