#!/usr/bin/env bash
# compute_sanitizer.sh OP_TEST FOLDER [SECONDS [FILTER...]]: runs the op table on a GPU under
# compute-sanitizer's memcheck, racecheck and initcheck concurrently, for at most SECONDS each
# (default: an hour), with logs in FOLDER. Each runs the parts of the table selected by the
# GoogleTest FILTERs, in order: list the most valuable first. Without a FILTER it runs the whole
# table. BARAM_TEST_DEVICE names the GPU, cuda:0 otherwise. Exits with 0 if nothing was found, 1 if
# something was, 75 if nothing was but a tool did not finish in time, 77 if there is no
# compute-sanitizer or it can't work on this machine.
set -euo pipefail
op_test=$1 folder=$2 seconds=${3:-3600} filters=("${@:4}")
((${#filters[@]})) || filters=("${GTEST_FILTER:-*}")
export BARAM_TEST_DEVICE=${BARAM_TEST_DEVICE:-cuda:0}

tool=$(command -v compute-sanitizer || true)
shopt -s dotglob # Python environments
for path in /usr/local/cuda*/bin/compute-sanitizer /opt/nvidia/*/compute-sanitizer \
  /opt/{,*/,*/*/}lib/python3*/site-packages/nvidia/*/{bin,compute-sanitizer}/compute-sanitizer; do
  [[ -n $tool || ! -x $path ]] || tool=$path
done
if [[ -z $tool ]]; then
  echo "compute-sanitizer is not installed here: it comes with the CUDA toolkit, package" \
    "cuda-sanitizer-13-0, or on PyPI as nvidia-cuda-sanitizer-api" >&2
  exit 77
fi

# run CHECK: runs one tool over the filters. Returns the first failure, or stops at its time limit.
run() {
  local begin=$SECONDS filter left status=0 first=0
  for filter in "${filters[@]}"; do
    left=$((begin + seconds - SECONDS))
    ((left > 0)) || return $((first ? first : 124))
    # Findings get their own exit code, to be distinguished from a failed test.
    status=0
    GTEST_FILTER=$filter timeout -k 2 "$left" "$tool" --tool "$1" --error-exitcode 99 "$op_test" ||
      status=$?
    ((first)) || first=$status
    ((status != 124 && status != 137)) || break
  done
  return $first
}

mkdir -p "$folder"
checks=(memcheck racecheck initcheck) pids=()
for check in "${checks[@]}"; do
  run "$check" >"$folder/$check.log" 2>&1 &
  pids+=($!)
done

# What the tools print about findings, and GoogleTest about a failed test: a run that was killed
# before its summary has nothing else.
findings='^=+ (Invalid|Misaligned|Uninitialized|Program hit|Error: (Race|Potential)|Warning: Race)'
findings+='|^\[  FAILED  \]'
failed=0 unfinished=0 unable=0
for i in "${!checks[@]}"; do
  check=${checks[i]} log=$folder/${checks[i]}.log status=0
  wait "${pids[i]}" || status=$?
  # Some virtual machines have runtimes that the tool does not support: then nothing runs under it.
  if ((status)) && grep -aq 'Device not supported' "$log"; then
    echo "compute-sanitizer can't work on this machine, see $log" >&2
    unable=1
    continue
  fi
  case $status in
    0) echo "$check: nothing found" ;;
    99) echo "$check: errors, see $log" && failed=1 ;;
    124 | 137)
      if grep -aqE "$findings" "$log"; then
        echo "$check: errors, and not done in $seconds s, see $log"
        failed=1
      else
        echo "$check: not done in $seconds s, nothing found until then"
        unfinished=1
      fi
      ;;
    *) echo "$check: the tests failed with status $status, see $log" && failed=1 ;;
  esac
  grep -a 'ERROR SUMMARY\|RACECHECK SUMMARY' "$log" | tail -n 1 || true
done
((failed == 0)) || exit 1
((unable == 0)) || exit 77
((unfinished == 0)) || exit 75
