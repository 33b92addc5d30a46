#!/bin/sh
# Runs a program and compares what it prints with a file, line by line.
# usage: check_output.sh EXPECTED PROGRAM [ARGS...]
# Each line of EXPECTED is an extended regular expression that the whole line must match.
set -eu
expected=$1
shift
# The status of the program is part of what is checked; a pipe would lose it.
output=$("$@")
printf '%s\n' "$output" | awk -v expected="$expected" '
  {
    # Windows ends lines so.
    sub(/\r$/, "")
    if ((getline want < expected) <= 0) {
      printf "line %d is one too many: %s\n", NR, $0
      bad = 1
    } else if ($0 !~ "^(" want ")$") {
      printf "line %d\n  expected: %s\n  printed:  %s\n", NR, want, $0
      bad = 1
    }
  }
  END {
    while ((getline want < expected) > 0) {
      printf "missing: %s\n", want
      bad = 1
    }
    exit bad
  }'
