#!/usr/bin/env bash
# compute_sanitizer.sh OP_TEST FOLDER [SECONDS]: runs the op table on a GPU under
# compute-sanitizer's memcheck, racecheck and initcheck, at most SECONDS each (default: an hour),
# logs into FOLDER. BARAM_TEST_DEVICE names the GPU, cuda:0 otherwise; GTEST_FILTER takes a part of
# the table. Exits with 0 if nothing was found, 1 if something was, 75 if nothing was but a tool was
# not done in time, 77 if there is no compute-sanitizer or it can't work on this machine.
set -euo pipefail
op_test=$1 folder=$2 seconds=${3:-3600}
export BARAM_TEST_DEVICE=${BARAM_TEST_DEVICE:-cuda:0}

tool=$(command -v compute-sanitizer || true)
shopt -s dotglob # environments of Python
for path in /usr/local/cuda*/bin/compute-sanitizer /opt/nvidia/*/compute-sanitizer \
  /opt/{,*/,*/*/}lib/python3*/site-packages/nvidia/*/{bin,compute-sanitizer}/compute-sanitizer; do
  [[ -n $tool || ! -x $path ]] || tool=$path
done
if [[ -z $tool ]]; then
  echo "compute-sanitizer is not installed here: it comes with the CUDA toolkit, package" \
    "cuda-sanitizer-13-0, or on PyPI as nvidia-cuda-sanitizer-api" >&2
  exit 77
fi

mkdir -p "$folder"
# What the tools write above what they found, and GoogleTest of a test that failed: of a run that
# was ended before its summary this is all there is.
findings='^=+ (Invalid|Misaligned|Uninitialized|Program hit|Error: (Race|Potential)|Warning: Race)'
findings+='|^\[  FAILED  \]'
failed=0 unfinished=0
for check in memcheck racecheck initcheck; do
  log=$folder/$check.log status=0
  # Its own exit code for what it finds, so that it is not taken for a failed test.
  timeout -k 2 "$seconds" "$tool" --tool "$check" --error-exitcode 99 "$op_test" >"$log" 2>&1 ||
    status=$?
  # Runtimes into which the tool has no way, of some virtual machines: then nothing runs under it.
  if ((status)) && grep -aq 'Device not supported' "$log"; then
    echo "compute-sanitizer can't work on this machine, see $log" >&2
    exit 77
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
((unfinished == 0)) || exit 75
