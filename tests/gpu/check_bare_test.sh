#!/usr/bin/env bash
# check_bare_test.sh: the output of check_bare.sh for programs next to trees of several sizes.
set -euo pipefail
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
die() { echo "check_bare_test.sh: $*" >&2; exit 1; }

tree=$scratch/tree
mkdir -p "$tree/deploy/static" "$scratch/bin"
cp "$sources/deploy/static/check_bare.sh" "$tree/deploy/static"
checks() { "$tree/deploy/static/check_bare.sh" "$scratch/bin" >"$scratch/words" 2>&1; }

cp "$(type -P true)" "$scratch/bin/program"
truncate -s 33M "$scratch/bin/program" "$tree/ignored"
checks && die "65 MiB of an unpacked archive are taken"
mkdir "$tree/build" && mv "$tree/ignored" "$tree/build"
checks || die "what is built counts: $(<"$scratch/words")"
mv "$tree/build/ignored" "$tree" && rmdir "$tree/build"
git -C "$tree" init -q
echo /ignored >"$tree/.gitignore"
git -C "$tree" add -N deploy
truncate -s 30M "$tree/large file"
checks || die "63 MiB are not taken: $(<"$scratch/words")"
truncate -s 32M "$tree/large file"
checks && die "65 MiB are taken"
grep -q 'larger than 64 MiB' "$scratch/words" || die "$(<"$scratch/words")"
rm "$tree/large file"
checks || die "a file that was deleted counts: $(<"$scratch/words")"
