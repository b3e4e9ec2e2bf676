#!/bin/sh
# Runs pytest on tests of real processes: tests/tried_again.sh PYTHON [PYTEST ARGUMENT]...
#
# They time what happens on a machine whose cores others may take for half a second at any time.
# What failed is therefore run again, one at a time, at most twice, in a session of its own, so that
# no fixture of the failed one lives on. Every try is printed; a fault of the code fails them all.
set -u
python=$1
shift
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT

tested() {
  "$python" -m pytest -o cache_dir="$cache" "$@"
}

tested "$@" --durations 10
ended=$?
for try in 2 3; do
  [ "$ended" -eq 1 ] || break # 1: tests failed; anything else is no test's
  echo "===== try $try of what failed, one at a time ====="
  tested "$@" --last-failed --last-failed-no-failures none --numprocesses 0
  ended=$?
done
exit "$ended"
