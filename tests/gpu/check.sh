#!/usr/bin/env bash
# check.sh PROGRAMS FOLDER [DEVICE]: on a machine with a GPU and its driver, checks what the CUDA
# device must show: correctness first, then performance as shares of the GPU's roofs, the most
# valuable first. PROGRAMS is the folder made by `./dev build cuda-static`; DEVICE is cuda:0 by
# default. Every part has its own time limit; all together end within 595 seconds. FOLDER gets two
# files, both rewritten after every part, so that results survive if this is killed: summary.json,
# and results.tar.gz with a log and, if there are numbers, a JSON file for each part, and
# clocks.csv, nvidia-smi's clocks, power and temperature once per second. Exits with 1 if a part
# failed. If ops crash or hang, also without overlap, the cases that did are run under
# compute-sanitizer and nothing else is, as every later part would fail in the same way.
# BARAM_DEMO_MODEL, if set, is the model to serve. If ops, goldens or graphs pass only
# without overlapping kernels, the later tests and benchmarks run without overlap, and the summary
# says so. It also says whether kernels overlap in the graphs of decode steps: a device disables
# only that if captures refuse it.
set -uo pipefail
programs=$(cd "$1" && pwd) device=${3:-cuda:0}
mkdir -p "$2" && out=$(cd "$2" && pwd)
folder=$(mktemp -d) || exit # becomes results.tar.gz
clocks=$(mktemp) || exit    # written all the time: keep copies it
root=${BARAM_TEST_ROOT:-} # root of the file system that is searched: for check_test.sh
# For startup; not in a folder that may be kept in memory.
checkpoint=$(mktemp -d -p "$root/var/tmp")
trap 'kill $(jobs -pr) 2>/dev/null; rm -rf "$folder" "$clocks" "$checkpoint"' EXIT
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export BARAM_TEST_DEVICE=$device BARAM_TEST_SOURCES=$sources
started=$SECONDS most=595 failed=0 overlap=1 graphs_overlap=null rows=() faults=()

# Finds cuBLASLt where toolkits and Python's wheels install it, in case the loader does not know it.
# Python's environments may be in hidden folders.
find_cublaslt() {
  local library name=libcublasLt.so.13
  shopt -s nullglob dotglob
  for library in "$programs"/$name "$root"/usr/local/cuda*/{lib64,targets/*/lib}/$name \
    "$root"/{usr,usr/local,opt/*,opt/*/*}/lib/python3*/{site,dist}-packages/nvidia/*/lib/$name; do
    [[ -e $library ]] || continue
    echo "$library"
    return
  done
  timeout 10 find "$root"/opt "$root"/usr -xdev -maxdepth 12 -name $name -print -quit 2>/dev/null
}
loader_path=${LD_LIBRARY_PATH:-}
library=$(find_cublaslt)
if [[ -n $library ]]; then
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$library")
  # Otherwise half a gigabyte from a cold disk would count against the first part that opens it.
  cat "$library" >/dev/null &
fi
if command -v nvidia-smi >/dev/null; then
  fields=timestamp,index,uuid,clocks.sm,clocks.mem,power.draw,temperature.gpu
  fields+=,clocks_event_reasons.active
  timeout $most nvidia-smi --format=csv --loop=1 --query-gpu="$fields" >"$clocks" 2>&1 &
fi

# keep: writes the results so far into FOLDER, each file atomically.
keep() {
  {
    printf '{"device": "%s", "cublaslt": "%s", "overlap": %d, "graphs_overlap": %s, ' \
      "$device" "$library" "$overlap" "$graphs_overlap"
    printf '"seconds": %d, "faults": [' $((SECONDS - started))
    ((${#faults[@]} == 0)) || printf '"%s"' "${faults[0]}"
    ((${#faults[@]} < 2)) || printf ', "%s"' "${faults[@]:1}"
    printf '], "parts": [\n  %s' "${rows[0]}"
    ((${#rows[@]} == 1)) || printf ',\n  %s' "${rows[@]:1}"
    printf '\n]}\n'
  } >"$folder/summary.json"
  cp "$clocks" "$folder/clocks.csv"
  cp "$folder/summary.json" "$out/.summary" && mv "$out/.summary" "$out/summary.json"
  tar -czf "$out/.results" -C "$folder" . && mv "$out/.results" "$out/results.tar.gz"
}

# part NAME SECONDS COMMAND...: runs it with its output in a log, and records the result.
part() {
  local name=$1 limit=$2 begin=$SECONDS left=$((started + most - SECONDS)) status=0 word
  shift 2
  ((limit < left)) || limit=$left
  if ((limit > 0)); then
    timeout -k 3 "$limit" "$@" >"$folder/$name.log" 2>&1 || status=$?
  else
    status=124
    echo "there was no time left" >"$folder/$name.log"
  fi
  case $status in
    0) word=passed ;;
    75) word="nothing found, but not done" ;; # a tool of compute_sanitizer.sh
    77) word=skipped ;;
    124 | 137) word="not done after $limit s" failed=1 ;;
    127) word="is not there" failed=1 ;;
    *) word="failed with $status" failed=1 ;;
  esac
  printf '%-14s %4d s  %s\n' "$name" $((SECONDS - begin)) "$word"
  [[ $status == 0 ]] || tail -n 6 "$folder/$name.log" | sed 's/^/    /'
  rows+=("{\"part\": \"$name\", \"result\": \"$word\", \"seconds\": $((SECONDS - begin))}")
  keep
  return $status
}

# sharded N TEST: N processes of a GoogleTest binary, each with its share of the tests.
sharded() {
  local pids=() status=0 i
  for ((i = 0; i < $1; ++i)); do
    GTEST_TOTAL_SHARDS=$1 GTEST_SHARD_INDEX=$i "$2" &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || status=$?; done
  return $status
}

# ops PART: the op table, one process per group, or several for a large group: a crash ends only
# its own process. Each writes a log to the part's folder.
ops() {
  local groups=('gemm 1 */Gemm_*' 'norm 1 */Norm_*:*/AddNorm_*' 'store_kv 1 */StoreKv_*'
    'row_ops 1 */Act_*:*/Embed_*:*/GatherRows_*' 'attend 2 */Attend_*' 'sample 2 */Sample_*')
  local pids=() logs=() status=0 ended group name count filter i
  cases() { "$programs/op_test" --gtest_list_tests --gtest_filter="$1" | grep '^  '; }
  if ! diff <(cases '*/OpTest.*' | sort) \
    <(for group in "${groups[@]}"; do cases "${group##* }"; done | sort); then
    echo "these cases are not in one group"
    status=1
  fi
  mkdir -p "$folder/$1"
  for group in "${groups[@]}"; do
    read -r name count filter <<<"$group"
    for ((i = 0; i < count; ++i)); do
      logs+=("$folder/$1/$name$i.log")
      GTEST_TOTAL_SHARDS=$count GTEST_SHARD_INDEX=$i "$programs/op_test" \
        --gtest_filter="$filter" >"${logs[-1]}" 2>&1 &
      pids+=($!)
    done
  done
  for i in "${!pids[@]}"; do
    ended=0
    wait "${pids[i]}" || ended=$?
    ((ended)) || continue
    status=$ended
    echo "${logs[i]##*/}: $(grep -ac '^\[  FAILED  \].* ms)$' "${logs[i]}") failed, exit $ended"
  done
  return $status
}

# unended PART: the cases that a part of ops started and did not finish.
unended() {
  local log
  for log in "$folder/$1"/*.log; do
    awk '/^\[ RUN / { name = $NF } /^\[       OK |^\[  FAILED  |^\[  SKIPPED / { name = "" }
         END { if (name != "") print name }' "$log"
  done
}

# cublaslt: 77 if there is none: GoogleTest counts a skipped test as passed.
cublaslt() {
  local out
  out=$("$programs/cuda_cublaslt_test" 2>&1) || { echo "$out" && return 1; }
  echo "$out"
  [[ $out != *SKIPPED* ]] || return 77
}

# stream: a server on the device streams one answer, then drains.
stream() {
  local model=${BARAM_DEMO_MODEL:-$programs/tiny-model} server status=0
  "$programs/baram" serve --model "$model" --device "$device" --grpc-listen 127.0.0.1:50061 \
    --http-listen 127.0.0.1:8061 --metrics-listen 127.0.0.1:8062 --drain-delay 0 &
  server=$!
  until { exec 3<>/dev/tcp/127.0.0.1/8062 && printf 'GET /ready HTTP/1.0\r\n\r\n' >&3 &&
    head -n 1 <&3 | grep -q ' 200 '; } 2>/dev/null; do
    kill -0 $server || return
    sleep 0.1
  done
  "$programs/baram" ask --server 127.0.0.1:50061 --temperature 0 --max-tokens 32 --timings \
    "The capital of Korea is" || status=$?
  kill $server
  wait $server || status=$?
  return $status
}

# startup: from the start of a program to its first token, 8B from the page cache, in a server's
# default sizes. The first run fills the cache: with zeros, since a hole is never read from a disk.
startup() {
  local run
  [[ -d $checkpoint ]] || { echo "/var/tmp is not to be written to" && return 1; }
  "$sources/bench/blank_checkpoint.sh" "$checkpoint" 32 4096 14336 32 8 128 128256 || return
  for run in first warm; do
    "$programs/engine_bench" --device "$device" --overlap "$overlap" --model "$checkpoint" \
      --prompt '' --batches '' --json "$folder/startup-$run.json" || return
  done
}

# shape PART SECONDS SHAPE FLAGS...: decode, and prefill if FLAGS name prompts, of a model with
# random weights.
shape() {
  local name=$1 limit=$2 shape=$3
  shift 3
  part "$name" "$limit" "$programs/engine_bench" --device "$device" --overlap "$overlap" \
    --shape "$shape" --context 1024 --prompt '' --batches 1,32 --steps 64 "$@" \
    --json "$folder/$name.json"
}

# alone PART SECONDS COMMAND...: reruns a failed part without overlapping kernels. If it passes, the
# remaining parts run that way.
alone() {
  BARAM_TEST_OVERLAP=0 part "$@" || return
  overlap=0
  export BARAM_TEST_OVERLAP=0
  echo "    from here on kernels do not overlap: numbers are lower than they should be"
  keep
}

export -f sharded ops cublaslt stream startup
export programs folder device sources overlap checkpoint
{
  cat "$sources/.git/HEAD" 2>/dev/null
  echo "cuBLASLt: ${library:-only where the loader finds it}"
  timeout 20 nvidia-smi -q 2>/dev/null || echo "no nvidia-smi here"
} >"$folder/machine.txt"

# Ordered by value. A limit is what the part takes at a third of the expected speed; together,
# without those that follow a failure, 585 seconds.
# Gives the reason if there is no GPU.
if ! part opens 45 "$programs/op_test" --gtest_filter='OpTestDevices.*'; then
  echo "the device $device can't be opened here; nothing was checked"
  exit 1
fi
if ! part ops 75 bash -c 'ops ops'; then
  unended ops | sed 's/^/    not ended: /'
  if ! alone ops-alone 40 bash -c 'ops ops-alone' && [[ -n $(unended ops) ]]; then
    mapfile -t faults < <(unended ops-alone)
  fi
fi
if ((${#faults[@]})); then
  printf '    not ended: %s\n' "${faults[@]}"
  # With the library: it may be what faults.
  part faults 60 "$sources/tests/gpu/compute_sanitizer.sh" "$programs/op_test" "$folder" 50 \
    "${faults[@]}"
  echo "ops fault, so nothing else was checked; logs are in $out"
  exit 1
fi
part cublaslt 40 bash -c cublaslt
if ! part goldens 30 bash -c 'sharded 4 "$programs/model_golden_test"' && ((overlap)); then
  alone goldens-alone 30 bash -c 'sharded 4 "$programs/model_golden_test"'
fi
part identities 15 "$programs/identities_test"
graphs=graphs # the part that reports their memory
if ! part graphs 15 "$programs/step_graphs_cuda_test" && ((overlap)); then
  alone graphs-alone 15 "$programs/step_graphs_cuda_test" && graphs=graphs-alone
fi
grep 'graphs took' "$folder/$graphs.log" | sed 's/^/    /'
part op_bench 60 "$programs/op_bench" --device "$device" --overlap "$overlap" \
  --json "$folder/ops.json"
shape llama-8b 60 llama-8b --prompt 512,2048,8192 --batches 1,8,32,128,256
graphs_overlap=$(sed -n 's/.*"captures": [1-9].*"overlap": \([a-z]*\).*/\1/p' \
  "$folder/llama-8b.json" 2>/dev/null)
graphs_overlap=${graphs_overlap:-null} # null: nothing was captured, or it did not finish
if [[ $overlap$graphs_overlap == 1false ]]; then
  echo "    kernels overlap, but not in graphs: numbers are lower than they should be"
fi
part stream 20 bash -c stream
part startup 35 bash -c startup
rm -rf "$checkpoint" # and its pages in the cache
grep 'first token' "$folder/startup.log" | sed 's/^/    /'
shape llama-8b-4k 45 llama-8b --context 4096 --prompt 4096 --batches 1,32,128
shape llama-3.2-1b 20 llama-3.2-1b --prompt 4096 --batches 1,32,128,256
# What overlap and graphs are worth, compared with llama-8b's.
shape llama-8b-eager 20 llama-8b --enforce-eager 1
((overlap == 0)) || shape llama-8b-alone 20 llama-8b --overlap 0
# Which of the two is worth it: overlap, or the division of L1 and shared memory that goes with it.
((overlap == 0)) || shape llama-8b-carve 20 llama-8b --carveout 0
shape exaone-1.2b 20 exaone-1.2b --prompt 512,2048,8192 --batches 1,8,32,128,256
# A subset of the table: the tools slow kernels down a hundredfold. Kernels that share most memory
# first, and only our own: the loader does not find the library, unless it is installed system-wide.
LD_LIBRARY_PATH=$loader_path \
  part sanitizers 45 "$sources/tests/gpu/compute_sanitizer.sh" "$programs/op_test" "$folder" 40 \
  '*Attend_64*:*Attend_*window33*:*Attend_cut_128_gqa4:*Sample_1003_batch*' \
  '*Norm_576*:*StoreKv_64*' '*Gemm*x50x*:*Gemm_33*:*Gemm_2x16*'

echo "all in $((SECONDS - started)) s; logs and numbers are in $out"
exit $failed
