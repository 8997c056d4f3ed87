#!/bin/sh
# check_bare.sh DIR: fails if a program in DIR needs a shared library beyond the C library's family
# or a newer C library than agreed, or if, together with the tree (the files that git does not
# ignore, or that building does not make), they exceed the size limit for copying to a machine.
set -eu
most_mib=64
most_glibc=2.35
allowed='^(libc|libm|libdl|librt|libpthread|ld-linux-x86-64)\.so\.[0-9]+$'
sources=$(cd "$(dirname "$0")/../.." && pwd)
# Where git knows nothing, as in an unpacked archive, all that is not built.
tree_files() {
  git -C "$sources" ls-files -z -co --exclude-standard 2>/dev/null | grep -z . ||
    (cd "$sources" && find . \( -name build -o -name .deps -o -name .cache -o -name target \) -prune \
      -o -type f -print0)
}
# Files deleted but not yet committed do not exist.
total=$(tree_files | (cd "$sources" && xargs -0 stat -c %s 2>/dev/null) |
  awk '{ total += $1 } END { print total }')
mib() { echo "$1" | awk '{ printf "%.1f", $1 / 1048576 }'; }
printf '%-24s %6s MiB\n' "the tree" "$(mib "$total")"
for program in "$1"/*; do
  [ -f "$program" ] || continue # the model
  bytes=$(stat -c %s "$program")
  total=$((total + bytes))
  needed=$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  printf '%-24s %6s MiB  %s\n' "${program##*/}" "$(mib "$bytes")" "$(echo "$needed" | tr '\n' ' ')"
  glibc=$(readelf -V "$program" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n 1)
  if [ "$(printf '%s\n' "$glibc" $most_glibc | sort -V | tail -n 1)" != $most_glibc ]; then
    echo "${program##*/} needs glibc $glibc; $most_glibc was agreed" >&2
    exit 1
  fi
  if echo "$needed" | grep -Ev "$allowed"; then
    echo "${program##*/} needs the libraries above, which a bare machine does not have" >&2
    exit 1
  fi
done
printf '%-24s %6s MiB\n' together "$(mib "$total")"
if [ "$total" -gt $((most_mib * 1048576)) ]; then
  echo "together they are larger than $most_mib MiB" >&2
  exit 1
fi
