#!/usr/bin/env bash
# stage.sh NAME COMMAND...   runs one stage of a test run and says how long it took.
set -uo pipefail
name=$1
shift
echo "== $name: $*"
begin=$SECONDS
"$@" </dev/null
status=$?
((status == 0)) && verdict=ok || verdict="FAILED (exit $status)"
echo "== $name: $verdict after $((SECONDS - begin)) s"
exit $status
