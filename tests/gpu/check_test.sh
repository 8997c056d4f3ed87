#!/usr/bin/env bash
# check_test.sh OP_TEST: tests check.sh itself, with fake programs. What it must get right when there
# is a GPU: finding the library, keeping results when it is killed, reporting what was skipped and
# what crashed. The cases of the op table are those of OP_TEST.
set -euo pipefail
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
OP_TEST=$(realpath "$1")
export OP_TEST TMPDIR=$scratch/tmp PATH=$scratch/path:$PATH BARAM_TEST_ROOT=$scratch/root
programs=$scratch/programs
mkdir -p "$TMPDIR" "$scratch/path" "$programs" "$BARAM_TEST_ROOT/var/tmp"

die() { echo "check_test.sh: $*" >&2; exit 1; }
fake() { # fake PROGRAM, its script on standard input
  { echo '#!/usr/bin/env bash' && cat; } >"$1"
  chmod +x "$1"
}
fake_op_test() { # what it does but list its cases, on standard input
  { echo '[[ $* != *--gtest_list_tests* ]] || exec "$OP_TEST" "$@"' && cat; } |
    fake "$programs/op_test"
}
expect() { # expect PART RESULT: what OUT's summary says
  grep -q "{\"part\": \"$1\", \"result\": \"$2\"" "$out/summary.json" ||
  die "no $1: $2 in $(<"$out/summary.json")"
}
kept() { tar -xzOf "$out/results.tar.gz" "./$1"; }

export TEST_OVERLAP=0
fake_op_test <<<'echo "$* $GTEST_SHARD_INDEX/$GTEST_TOTAL_SHARDS"'
fake "$programs/step_graphs_cuda_test" <<<'exit 0'
fake "$programs/cuda_cublaslt_test" <<<'echo "from $LD_LIBRARY_PATH"'
# Passes only without overlapping kernels.
fake "$programs/model_golden_test" <<<'[[ ${BARAM_TEST_OVERLAP:-} == 0 ]]'
fake "$programs/identities_test" <<<'[[ ${BARAM_TEST_OVERLAP:-} == "$TEST_OVERLAP" ]]'
fake "$programs/baram" <<<'exit 1'
# Killed at its limit, with partial results.
fake "$programs/op_bench" <<<'echo "half" >"${@: -1}"; exit 124'
fake "$programs/engine_bench" <<<'echo "$*" >"${@: -1}"'
# With --loop it runs until it is killed.
fake "$scratch/path/nvidia-smi" <<'END'
echo a GPU
[[ $* != *--loop* ]] || { echo $$ >"$TMPDIR/../smi" && exec sleep 100; }
END
fake "$scratch/path/compute-sanitizer" <<'END'
echo "========= Error: Device not supported."
exit 99
END
library=$scratch/root/opt/torch/.venv/lib/python3.12/site-packages/nvidia/cu13/lib
mkdir -p "$library"
touch "$library/libcublasLt.so.13"

out=$scratch/whole
"$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" &&
  die "a part failed, check.sh did not"
expect opens passed
expect ops passed
for log in "gemm0: */Gemm_* 0/1" "row_ops0: */Act_*:*/Embed_*:*/GatherRows_* 0/1" \
  "sample0: */Sample_* 0/2" "sample1: */Sample_* 1/2"; do
  [[ $(kept "ops/${log%%:*}.log") == "--gtest_filter=${log#*: }" ]] ||
    die "not $log but $(kept "ops/${log%%:*}.log")"
done
expect goldens "failed with 1"
expect goldens-alone passed
expect identities passed
expect graphs passed
expect op_bench "not done after 60 s"
expect llama-8b passed
expect stream "failed with 1"
expect startup passed
expect sanitizers skipped
[[ $(kept ops.json) == half ]] || die "what op_bench measured is lost"
[[ $(kept cublaslt.log) == "from "*"$library" ]] ||
  die "the library of the Python environment is not found: $(kept cublaslt.log)"
[[ $(kept startup-warm.json) == *"--prompt  --batches "* ]] || die "the start is not measured alone"
grep -q '"overlap": 0' "$out/summary.json" ||
  die "the summary does not say that kernels do not overlap"
for part in llama-8b llama-8b-4k startup-warm exaone-1.2b; do
  [[ $(kept $part.json) == *"--overlap 0 "* ]] ||
  die "kernels overlap in $part although the goldens need that they don't"
done
grep -qE 'llama-8b-(alone|carve)' "$out/summary.json" && die "what does not overlap is measured beside itself"
[[ $(kept llama-8b-4k.json) == *"--context 4096 --prompt 4096 --batches 1,32,128"* ]] ||
  die "$(kept llama-8b-4k.json)"
[[ $(kept clocks.csv) == "a GPU" ]] || die "what nvidia-smi says of the clocks is lost"
timeout 5 tail -f /dev/null --pid "$(<"$scratch/smi")" || die "nvidia-smi still runs"
limits=$(grep -oE '(part|shape) [a-z0-9._-]+ [0-9]+ ' "$sources/tests/gpu/check.sh" |
  sed '/ faults /d' | cut -d ' ' -f 3)
[[ $(wc -l <<<"$limits") == 17 ]] || die "there are 17 parts: $limits"
((${limits//$'\n'/+} < 590)) || die "the limits of all parts together are $((${limits//$'\n'/+})) s"
[[ $(ls -A "$out" | tr '\n' ' ') == "results.tar.gz summary.json " ]] ||
  die "other files: $(ls -A "$out")"

# In an unusual place, found by search.
mkdir -p "$scratch/root/opt/a/b/c"
mv "$library/libcublasLt.so.13" "$scratch/root/opt/a/b/c"
# Killed, as by a limit on the whole run: finished results are kept.
fake "$programs/model_golden_test" <<<'exit 0'
export TEST_OVERLAP=
fake "$programs/engine_bench" <<<'kill -KILL $(cut -d " " -f 4 /proc/$PPID/stat)'
out=$scratch/killed
"$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" 2>&1 && die "it was not killed"
expect op_bench "not done after 60 s"
kill "$(<"$scratch/smi")" # what a killed script can't do
grep -q '"overlap": 1' "$out/summary.json" || die "kernels overlap unless something fails"
grep -q llama-8b "$out/summary.json" && die "a part that was not finished is in the summary"
[[ $(kept ops.json) == half ]] || die "what was measured before the kill is lost"
[[ $(kept cublaslt.log) == "from "*"$scratch/root/opt/a/b/c" ]] ||
  die "the library is not searched for"

# Passes only without overlapping kernels, from the ops on. The library is tried in the same mode as
# the rest.
fake_op_test <<<'[[ $* == *OpTestDevices* || ${BARAM_TEST_OVERLAP:-} == 0 ]]'
fake "$programs/cuda_cublaslt_test" <<<'echo "overlap: ${BARAM_TEST_OVERLAP:-}"'
fake "$programs/model_golden_test" <<<'exit 1'
fake "$programs/engine_bench" <<<'echo "$*" >"${@: -1}"'
export TEST_OVERLAP=0
out=$scratch/ops
"$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" && die "the ops did not fail"
expect ops "failed with 1"
expect ops-alone passed
expect cublaslt passed
expect identities passed
[[ $(kept cublaslt.log) == "overlap: 0" ]] || die "the library's kernels: $(kept cublaslt.log)"
grep -q goldens-alone "$out/summary.json" && die "the goldens are tried twice in the same way"
grep -q '"overlap": 0, "graphs_overlap": null' "$out/summary.json" || die "$(<"$out/summary.json")"

# Kernels overlap everywhere but in graphs. The sanitizers run concurrently, the most valuable
# first, and do not find the library.
fake_op_test <<<'exit 0'
fake "$programs/model_golden_test" <<<'exit 0'
fake "$programs/engine_bench" <<'END'
echo ' "graphs": {"captures": 3, "replays": 9, "refusals": 0, "overlap": false},' >"${@: -1}"
END
fake "$scratch/path/compute-sanitizer" <<'END'
echo "$GTEST_FILTER, library from: $LD_LIBRARY_PATH" >>"$TMPDIR/$2.filters"
for ((i = 0; i < 300; ++i)); do
  [[ $(ls "$TMPDIR"/*check.filters | wc -l) != 3 ]] || exit 0
  sleep 0.1
done
exit 1
END
export TEST_OVERLAP=
out=$scratch/sanitized
"$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" && die "stream did not fail"
expect ops passed
expect sanitizers passed
for part in llama-8b-alone llama-8b-carve; do expect $part passed; done
grep -q '"overlap": 1, "graphs_overlap": false' "$out/summary.json" || die "$(<"$out/summary.json")"
grep -q 'not in graphs' "$scratch/words" || die "it does not say that kernels in graphs don't overlap"
for check in memcheck racecheck initcheck; do
  filters=$(<"$TMPDIR/$check.filters")
  [[ ${filters%%$'\n'*} == *Attend*Sample* && ${filters%%$'\n'*} != *Gemm* ]] ||
    die "$check begins with ${filters%%$'\n'*}"
  [[ $filters == *Gemm* ]] || die "$check never comes to Gemm: $filters"
  [[ $filters != *"$scratch/root"* ]] || die "$check finds the library: $filters"
done

# A part killed at its limit leaves nothing running, and the graphs' memory is reported if they are
# captured only without overlap.
fake "$programs/engine_bench" <<'END'
if [[ $* == *--model* ]]; then
  sed 's/.*--model \([^ ]*\).*/\1/' <<<"$*" >"$TMPDIR/../checkpoint"
  kill -KILL $PPID
fi
echo "$*" >"${@: -1}"
END
fake "$programs/step_graphs_cuda_test" <<'END'
[[ ${BARAM_TEST_OVERLAP:-} == 0 ]] && echo "graphs took 5 MB"
END
out=$scratch/limited
"$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" && die "startup did not fail"
expect startup "not done after 35 s"
expect exaone-1.2b passed
expect graphs-alone passed
grep -q 'graphs took 5 MB' "$scratch/words" || die "it does not say what graphs took alone"
[[ $(<"$scratch/checkpoint") == "$BARAM_TEST_ROOT"/var/tmp/* ]] ||
  die "the checkpoint: $(<"$scratch/checkpoint")"
[[ ! -e $(<"$scratch/checkpoint") ]] || die "the checkpoint of startup is left behind"
timeout 5 tail -f /dev/null --pid "$(<"$scratch/smi")" || die "nvidia-smi goes on"

# Ops with and without overlap, in the ways that there are. From here on the tools stand for all.
fake "$scratch/path/compute-sanitizer" <<<'echo "$GTEST_FILTER" >>"$TMPDIR/$2.faults"'
fake "$programs/engine_bench" <<<'exit 1'
case_of() { echo "Cases/OpTest.IsCloseToRefAndExact/$1"; }
run_ops() { # run_ops FOLDER: check.sh on an op_test that does for $filter what is on standard input
  { cat <<'END' && cat; } | fake_op_test
filter=$* prefix=Cases/OpTest.IsCloseToRefAndExact
run() { echo "[ RUN      ] $prefix/$1"; }
end() { echo "[$1] $prefix/$2 (0 ms)"; }
END
  out=$scratch/$1
  rm -f "$TMPDIR"/*.faults
  "$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" && die "$1: it did not fail"
  true
}
goes_on() {
  expect cublaslt passed
  grep -q '"faults": \[\]' "$out/summary.json" || die "faults: $(<"$out/summary.json")"
}
stops() { # stops CASE...: which are seen by every tool
  local faults
  faults=$(printf '%s\n' "$@")
  for check in memcheck racecheck initcheck; do
    [[ $(<"$TMPDIR/$check.faults") == "$faults" ]] ||
      die "$check is run on $(<"$TMPDIR/$check.faults")"
  done
  expect faults passed
  grep -q "\"faults\": \[\"${faults//$'\n'/\", \"}\"\]" "$out/summary.json" ||
    die "faults: $(<"$out/summary.json")"
  grep -q cublaslt "$scratch/words" && die "it goes on: $(<"$scratch/words")"
  grep -q 'nothing else was checked' "$scratch/words" || die "it does not say that it stops"
}

run_ops wrong <<'END'
run Gemm_1; end '  FAILED  ' Gemm_1
[[ $filter == *OpTestDevices* || $filter != *StoreKv* ]]
END
expect ops "failed with 1"
expect ops-alone "failed with 1"
grep -q 'store_kv0.log: 1 failed, exit 1' "$scratch/words" || die "who failed: $(<"$scratch/words")"
goes_on

fault='run StoreKv_1; end "       OK " StoreKv_1; run StoreKv_2; kill -ABRT $$'
run_ops overlap <<<"[[ \$filter != *StoreKv* || \${BARAM_TEST_OVERLAP:-} == 0 ]] || { $fault; }"
expect ops "failed with 134"
expect ops-alone passed
goes_on

run_ops alone <<END
[[ \$filter == *StoreKv* ]] || exit 0
[[ \${BARAM_TEST_OVERLAP:-} == 0 ]] || exit 1
$fault
END
expect ops "failed with 1"
expect ops-alone "failed with 134"
goes_on

# Faults in two groups, one of them with half of its cases.
run_ops fault <<END
[[ \$filter != *StoreKv* ]] || { $fault; }
[[ \$filter == *Sample* ]] || exit 0
run Sample_1
((GTEST_SHARD_INDEX)) || { end '  FAILED  ' Sample_1; exit 1; }
end '       OK ' Sample_1
run Sample_2
kill -SEGV \$\$
END
stops "$(case_of Sample_2)" "$(case_of StoreKv_2)"
kept ops/store_kv0.log | grep -q StoreKv_2 || die "the log of the fault is lost"

# A hang. Limits are short for once.
fake "$scratch/path/timeout" <<END
args=("\$@")
for i in "\${!args[@]}"; do [[ \${args[i]} != @(75|40) ]] || args[i]=1; done
exec $(type -P timeout) "\${args[@]}"
END
run_ops hang <<'END'
[[ $filter == *Attend* && $GTEST_SHARD_INDEX == 1 ]] || exit 0
run Attend_2
echo $$ >"$TMPDIR/../hung"
exec sleep 100
END
rm "$scratch/path/timeout"
expect ops "not done after 75 s"
expect ops-alone "not done after 40 s"
stops "$(case_of Attend_2)"
timeout 5 tail -f /dev/null --pid "$(<"$scratch/hung")" || die "what hangs is left behind"

# A case that no group takes, and one that two do.
for name in Act_Gemm_3/Gemm_3 Other_3; do
  fake "$programs/op_test" <<END
[[ \$* == *--gtest_list_tests* ]] || exit 0
"$OP_TEST" "\$@"
[[ \$* != *OpTest.* && $name == Other* ]] || echo "  IsCloseToRefAndExact/$name"
END
  out=$scratch/groups
  "$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" && die "$name: it did not fail"
  expect ops "failed with 1"
  kept ops.log | grep -q "$name" || die "it does not name $name: $(kept ops.log)"
done

# No GPU: said at once.
fake "$programs/op_test" <<<'echo "no driver"; exit 1'
out=$scratch/none
"$sources/tests/gpu/check.sh" "$programs" "$out" >"$scratch/words" && die "no GPU is no success"
grep -q "can't be opened here" "$scratch/words" || die "it does not say that there is no GPU"
expect opens "failed with 1"
