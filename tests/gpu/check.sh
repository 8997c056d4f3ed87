#!/usr/bin/env bash
# check.sh PROGRAMS FOLDER [DEVICE]: on a machine with a GPU and its driver, what the CUDA device
# must show: correctness first, then numbers as shares of the GPU's roofs, what is worth most first.
# PROGRAMS is the folder of `./dev build cuda-static`; DEVICE is cuda:0 by default. Every part has
# its own time limit; all together end within 595 seconds. FOLDER gets two files, both anew after
# every part, so that what was found is there whenever this is ended: summary.json, and
# results.tar.gz with a log and where there are numbers a JSON file of each part, and clocks.csv,
# what nvidia-smi said of clocks, power and temperature once a second. Exits with 1 if a part
# failed. BARAM_DEMO_MODEL, if set, is the model that is served. Where ops, goldens or graphs pass
# only while kernels do not overlap, they don't in the tests and benchmarks behind, and the summary
# says so. It says as well whether kernels overlap in the graphs of decode steps: a device gives that
# up alone where captures refuse it.
set -uo pipefail
programs=$(cd "$1" && pwd) device=${3:-cuda:0}
mkdir -p "$2" && out=$(cd "$2" && pwd)
folder=$(mktemp -d) || exit # what becomes results.tar.gz
clocks=$(mktemp) || exit    # is written all the time: keep copies it
root=${BARAM_TEST_ROOT:-} # of the file system that is looked at: for check_test.sh
# Of startup; not where temporary files may be memory.
checkpoint=$(mktemp -d -p "$root/var/tmp")
trap 'kill $(jobs -pr) 2>/dev/null; rm -rf "$folder" "$clocks" "$checkpoint"' EXIT
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export BARAM_TEST_DEVICE=$device BARAM_TEST_SOURCES=$sources
started=$SECONDS most=595 failed=0 overlap=1 graphs_overlap=null rows=()

# cuBLASLt from where toolkits and Python's wheels leave it, in case the loader does not know it.
# The environments of Python may be in folders whose names begin with a dot.
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
  # Half a gigabyte from a cold disk would be the time of whichever part opens it first.
  cat "$library" >/dev/null &
fi
if command -v nvidia-smi >/dev/null; then
  fields=timestamp,index,uuid,clocks.sm,clocks.mem,power.draw,temperature.gpu
  fields+=,clocks_event_reasons.active
  timeout $most nvidia-smi --format=csv --loop=1 --query-gpu="$fields" >"$clocks" 2>&1 &
fi

# keep: what is there by now into FOLDER, file by file whole or not at all.
keep() {
  {
    printf '{"device": "%s", "cublaslt": "%s", "overlap": %d, "graphs_overlap": %s, ' \
      "$device" "$library" "$overlap" "$graphs_overlap"
    printf '"seconds": %d, "parts": [\n  %s' $((SECONDS - started)) "${rows[0]}"
    ((${#rows[@]} == 1)) || printf ',\n  %s' "${rows[@]:1}"
    printf '\n]}\n'
  } >"$folder/summary.json"
  cp "$clocks" "$folder/clocks.csv"
  cp "$folder/summary.json" "$out/.summary" && mv "$out/.summary" "$out/summary.json"
  tar -czf "$out/.results" -C "$folder" . && mv "$out/.results" "$out/results.tar.gz"
}

# part NAME SECONDS COMMAND...: runs it with its output in a log, and remembers how it went.
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

# sharded N TEST: N processes of a GoogleTest binary, each with its part of the tests.
sharded() {
  local pids=() status=0 i
  for ((i = 0; i < $1; ++i)); do
    GTEST_TOTAL_SHARDS=$1 GTEST_SHARD_INDEX=$i "$2" --gtest_brief=1 &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || status=$?; done
  return $status
}

# cublaslt: 77 where there is none: a test that was skipped has passed for GoogleTest.
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

# startup: from the start of a program to its first token, 8B from the page cache, in the sizes that
# a server takes by default. The first run fills the cache: with zeros, since a hole is never read
# from a disk.
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

# alone PART SECONDS COMMAND...: what failed once more, with kernels that do not overlap. If it
# passes then, that is how what follows runs.
alone() {
  BARAM_TEST_OVERLAP=0 part "$@" || return
  overlap=0
  export BARAM_TEST_OVERLAP=0
  echo "    from here on kernels do not overlap: numbers are lower than they should be"
  keep
}

export -f sharded cublaslt stream startup
export programs folder device sources overlap checkpoint
{
  cat "$sources/.git/HEAD" 2>/dev/null
  echo "cuBLASLt: ${library:-only where the loader finds it}"
  timeout 20 nvidia-smi -q 2>/dev/null || echo "no nvidia-smi here"
} >"$folder/machine.txt"

# In the order of their worth. Limits are what the part takes at a third of the speed that is hoped
# for; together, without those that follow a failure, 580 seconds.
# Says why where there is no GPU.
if ! part opens 50 "$programs/op_test" --gtest_filter='OpTestDevices.*'; then
  echo "the device $device can't be opened here; nothing was checked"
  exit 1
fi
if ! part ops 75 bash -c 'sharded 6 "$programs/op_test"'; then
  alone ops-alone 40 bash -c 'sharded 6 "$programs/op_test"'
fi
part cublaslt 40 bash -c cublaslt
if ! part goldens 30 bash -c 'sharded 4 "$programs/model_golden_test"' && ((overlap)); then
  alone goldens-alone 30 bash -c 'sharded 4 "$programs/model_golden_test"'
fi
part identities 15 "$programs/identities_test" --gtest_brief=1
graphs=graphs # the part that says what they took
if ! part graphs 15 "$programs/step_graphs_cuda_test" --gtest_brief=1 && ((overlap)); then
  alone graphs-alone 15 "$programs/step_graphs_cuda_test" --gtest_brief=1 && graphs=graphs-alone
fi
grep 'graphs took' "$folder/$graphs.log" | sed 's/^/    /'
part op_bench 60 "$programs/op_bench" --device "$device" --overlap "$overlap" \
  --json "$folder/ops.json"
shape llama-8b 60 llama-8b --prompt 512,2048,8192 --batches 1,8,32,128,256
graphs_overlap=$(sed -n 's/.*"captures": [1-9].*"overlap": \([a-z]*\).*/\1/p' \
  "$folder/llama-8b.json" 2>/dev/null)
graphs_overlap=${graphs_overlap:-null} # null: nothing was captured, or it was not done
if [[ $overlap$graphs_overlap == 1false ]]; then
  echo "    kernels overlap, but not in graphs: numbers are lower than they should be"
fi
part stream 20 bash -c stream
part startup 35 bash -c startup
rm -rf "$checkpoint" # and with it the pages in the cache
grep 'first token' "$folder/startup.log" | sed 's/^/    /'
shape llama-8b-4k 45 llama-8b --context 4096 --prompt 4096 --batches 1,32,128
shape llama-3.2-1b 20 llama-3.2-1b --prompt 4096 --batches 1,32,128,256
# What overlap and graphs are worth: beside llama-8b's.
shape llama-8b-eager 20 llama-8b --enforce-eager 1
((overlap == 0)) || shape llama-8b-alone 20 llama-8b --overlap 0
shape exaone-1.2b 20 exaone-1.2b --prompt 512,2048,8192 --batches 1,8,32,128,256
# A part of the table: the tools slow kernels down a hundredfold. What shares most memory first, and
# our own kernels alone: the loader does not see the library, unless it knows it by itself.
LD_LIBRARY_PATH=$loader_path \
  part sanitizers 55 "$sources/tests/gpu/compute_sanitizer.sh" "$programs/op_test" "$folder" 50 \
  '*Attend_64*:*Attend_*window33*:*Attend_cut_128_gqa4:*Sample_1003_batch*' \
  '*Norm_576*:*StoreKv_64*' '*Gemm*x50x*:*Gemm_33*:*Gemm_2x16*'

echo "all in $((SECONDS - started)) s; logs and numbers are in $out"
exit $failed
