# shellcheck shell=bash
# Sets up what is missing: Debian packages, .venv, the module. Sourced by bootstrap_benchmark.sh,
# run_tests.sh and scripts/start.sh; call `set_up` (all) or `set_up dev` (with the tests' tools).
# Quick when there is nothing to do. Exit code 2 and one sentence when something cannot be had.
#
# Settings:
#   KEYMISS_SERVER    redis, valkey or valkey9
#   KEYMISS_OBSERVE   yes: Prometheus and the Redis exporter too
#   KEYMISS_USER      as root: who the processes run as; default keymiss, made here, or nobody where that cannot be
#   KEYMISS_PIP_ARGS  more arguments for pip, as --extra-index-url ... (words are split at blanks)
#   KEYMISS_TORCH_INDEX  where the CPU build of torch is looked for when pip does not find it by itself

KEYMISS_SERVER=${KEYMISS_SERVER:-redis}
KEYMISS_OBSERVE=${KEYMISS_OBSERVE:-no}
KEYMISS_PIP_ARGS=${KEYMISS_PIP_ARGS:-}
KEYMISS_TORCH_INDEX=${KEYMISS_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
KEYMISS_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$KEYMISS_HOME/.venv
PATH=$PATH:/usr/sbin:/sbin # nginx, for users who are not root
export KEYMISS_SERVER KEYMISS_OBSERVE PATH

give_up() {
    echo "$*" >&2
    exit 2
}

is_root() {
    [ "$(id -u)" = 0 ]
}

# Runs a command as the processes will be run. By sh, as setpriv itself still has root's rights when it starts it.
as_processes() {
    if is_root && [ "$(id -u "$KEYMISS_USER")" != 0 ]; then
        setpriv --reuid "$(id -u "$KEYMISS_USER")" --regid "$(id -g "$KEYMISS_USER")" --clear-groups -- \
            sh -c 'exec "$@"' sh "$@"
    else
        "$@"
    fi
}

# As root: the user that the processes run as.
set_up_user() {
    is_root || return 0
    if [ -z "${KEYMISS_USER:-}" ] && ! id keymiss >/dev/null 2>&1; then
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin keymiss \
            2>/dev/null || true
    fi
    KEYMISS_USER=${KEYMISS_USER:-$(id -un keymiss 2>/dev/null || echo nobody)}
    id "$KEYMISS_USER" >/dev/null 2>&1 ||
        give_up "KEYMISS_USER must be a user of this machine, not '$KEYMISS_USER'."
    as_processes true ||
        give_up "Root cannot become the user $KEYMISS_USER here: see above; KEYMISS_USER=root runs everything as root."
    export KEYMISS_USER
}

# A project in a folder that this user cannot enter, as one in /root: .venv and var are links to a folder that it can.
set_up_place() {
    local place
    is_root || return 0
    as_processes test -x "$KEYMISS_HOME" && return 0
    place=/var/lib/keymiss/$(basename "$KEYMISS_HOME")-$(printf %s "$KEYMISS_HOME" | sha256sum | cut -c 1-8)
    (umask 022 && mkdir -p "$place")
    VENV=$place/venv
    if [ ! "$KEYMISS_HOME/.venv" -ef "$VENV" ]; then
        rm -rf "$KEYMISS_HOME/.venv"
        ln -sfn "$VENV" "$KEYMISS_HOME/.venv"
    fi
    [ ! -L "$KEYMISS_HOME/var" ] && [ -z "${KEYMISS_VAR:-}" ] || return 0
    if [ -d "$KEYMISS_HOME/var" ]; then
        if kill -0 "$(cat "$KEYMISS_HOME/var/run/supervisord.pid" 2>/dev/null || echo none)" 2>/dev/null; then
            give_up "Keymiss runs here as root: scripts/stop.sh stops it, then start again."
        fi
        mv "$KEYMISS_HOME/var" "$place/var"
    fi
    ln -s "$place/var" "$KEYMISS_HOME/var"
    echo "This folder is closed to the user $KEYMISS_USER: .venv and var are links to $place"
}

as_root() {
    if is_root; then "$@"; else sudo -n "$@"; fi
}

# The first python3.11 that can make environments and that the processes can run, or nothing.
find_python() {
    local candidate candidates
    mapfile -t candidates < <(type -aP python3.11 python3)
    for candidate in "${candidates[@]}"; do
        if as_processes "$candidate" -c \
            'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# Whether the processes can run .venv.
venv_works() {
    as_processes "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
}

# Debian packages for what is missing, one a line; with `dev` the tests' too.
missing_packages() {
    [ "$KEYMISS_SERVER" = valkey9 ] || command -v "$KEYMISS_SERVER-server" >/dev/null || echo "$KEYMISS_SERVER-server"
    command -v redis-cli >/dev/null && command -v redis-benchmark >/dev/null || echo redis-tools
    command -v nginx >/dev/null || echo nginx-light
    command -v gcc >/dev/null || echo gcc
    command -v make >/dev/null || echo make
    command -v openssl >/dev/null || echo openssl
    command -v curl >/dev/null || echo curl
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    venv_works || [ -n "$(find_python)" ] || printf '%s\n' python3 python3-venv
    [ "${1:-}" != dev ] || command -v chromium-headless-shell >/dev/null || echo chromium-headless-shell
    if [ "$KEYMISS_OBSERVE" = yes ] || [ "${1:-}" = dev ]; then
        command -v prometheus >/dev/null || echo prometheus
        command -v prometheus-redis-exporter >/dev/null || command -v redis_exporter >/dev/null ||
            echo prometheus-redis-exporter
    fi
}

# Installs Debian packages without letting their services start. In a subshell: its traps clean up.
apt_install() (
    set -e
    policy=/usr/sbin/policy-rc.d
    backports=/etc/apt/sources.list.d/keymiss-backports.list
    made=()
    trap '[ ${#made[@]} = 0 ] || as_root rm -f "${made[@]}"' EXIT
    if [ ! -e "$policy" ]; then
        made+=("$policy")
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    from=()
    if [ "$KEYMISS_SERVER" = valkey ] && grep -q 'VERSION_CODENAME=bookworm' /etc/os-release; then
        from=(-t bookworm-backports)
        if ! grep -rqs '^[^#]*bookworm-backports' /etc/apt/sources.list /etc/apt/sources.list.d; then
            made+=("$backports")
            echo 'deb http://deb.debian.org/debian bookworm-backports main' | as_root tee "$backports" >/dev/null
        fi
    fi
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends "${from[@]}" install "$@"
    for service in "$@"; do # these would listen on every address from the next boot on
        case $service in
            prometheus*) as_root systemctl disable --quiet "$service" || true ;; # there may be no systemd
        esac
    done
)

set_up_packages() {
    local missing log
    mapfile -t missing < <(missing_packages "${1:-}")
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        give_up "Please install with your package manager: ${missing[*]} (there is no apt-get here to do it)."
    if ! is_root && ! sudo -n true 2>/dev/null; then
        give_up "Please run as root: apt-get install ${missing[*]} (neither root nor sudo without a password here)."
    fi
    echo "installing Debian packages: ${missing[*]}"
    log=$(mktemp)
    apt_install "${missing[@]}" >"$log" 2>&1 || {
        tail -5 "$log" >&2
        give_up "apt-get could not install ${missing[*]}: see its words above, install them by hand, and start again."
    }
    rm -f "$log"
    mapfile -t missing < <(missing_packages "${1:-}")
    [ ${#missing[@]} = 0 ] || give_up "Still missing after apt-get: ${missing[*]}. Please install them by hand."
}

pip_install() {
    # shellcheck disable=SC2086
    (umask 022 && "$VENV/bin/python" -m pip install -q --no-compile --disable-pip-version-check --no-input \
        $KEYMISS_PIP_ARGS "$@")
}

# The bytecode of what pip installed, which the processes' user may not write. $1: how many processes make it;
# default: one a core, where pip has one.
compile_packages() {
    local packages
    [ ! -e "$VENV/.compiled" ] || return 0
    packages=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # Some packages have files for other versions of Python, which are not compiled.
    (umask 022 && "$VENV/bin/python" -m compileall -qq -j "${1:-0}" "$packages") || true
    touch "$VENV/.compiled"
}

# $1: a lock file, the rest: more arguments. Skipped when this very lock was installed last time.
install_lock() {
    local lock=$1 stamp sum
    shift
    stamp=$VENV/.installed-$lock
    sum=$(sha256sum <"$KEYMISS_HOME/$lock")
    [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && return 0
    echo "installing Python packages: $lock"
    rm -f "$VENV/.compiled"
    pip_install --require-hashes "$@" -r "$KEYMISS_HOME/$lock" 2>"$VENV/pip.log" ||
        { grep -q 'torch==' "$VENV/pip.log" &&
            pip_install --require-hashes "$@" --extra-index-url "$KEYMISS_TORCH_INDEX" -r "$KEYMISS_HOME/$lock" \
                2>"$VENV/pip.log"; } || {
        tail -5 "$VENV/pip.log" >&2
        give_up "pip could not install $lock: see its words above; KEYMISS_PIP_ARGS can name another index."
    }
    echo "$sum" >"$stamp"
}

set_up_python() {
    local python
    if ! venv_works; then
        python=$(find_python)
        [ -n "$python" ] || give_up "Python 3.11 with its venv module is needed, one that the user ${KEYMISS_USER:-$(id -un)} can run too: install python3.11 and start again."
        rm -rf "$VENV"
        (umask 022 && "$python" -m venv "$VENV") || give_up "$python could not make $VENV: see its words above."
    fi
    install_lock requirements.lock
    install_lock requirements-nodeps.lock --no-deps
    if [ "$KEYMISS_SERVER" = valkey9 ]; then install_lock requirements-valkey9.lock; fi
    if [ "${1:-}" = dev ]; then install_lock requirements-dev.lock; fi
}

# An environment beside .venv: $1 its name, $2 its lock file.
set_up_another() {
    local VENV=$KEYMISS_HOME/$1 python
    if ! "$VENV/bin/python" -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        python=$(find_python)
        [ -n "$python" ] || python=$KEYMISS_HOME/.venv/bin/python
        rm -rf "$VENV"
        "$python" -m venv "$VENV" || give_up "$python could not make $VENV: see its words above."
    fi
    install_lock "$2"
    compile_packages
}

# Of clients that need redis-py < 4, which the tests run.
set_up_old_clients() {
    set_up_another .venv-oldclients requirements-oldclients.lock
}

# Of scripts/audit.sh.
set_up_audit() {
    set_up_another .venv-audit requirements-audit.lock
}

# Of what scripts/bench.py --haystack compares with.
set_up_haystack() {
    set_up_another .venv-haystack requirements-haystack.lock
}

set_up_module() {
    make -s -C "$KEYMISS_HOME/module" || give_up "The module did not build: see make's words above."
}

# What may need root.
set_up_machine() {
    case $KEYMISS_SERVER in
        redis | valkey | valkey9) ;;
        *) give_up "KEYMISS_SERVER must be redis, valkey or valkey9, not '$KEYMISS_SERVER'." ;;
    esac
    set_up_user
    set_up_place
    set_up_packages "${1:-}"
}

set_up() {
    set_up_machine "${1:-}"
    set_up_python "${1:-}"
    compile_packages
    set_up_module
}

# The command `keymiss`.
keymiss() {
    "$KEYMISS_HOME/scripts/keymiss" "$@"
}

# Makes settings of a script's options; for wrong ones shows the script's usage and ends with 2.
read_options() {
    while [ $# -gt 0 ]; do
        case $1=${2:-} in
            --observe=*) KEYMISS_OBSERVE=yes; shift; continue ;;
            --tls=*) export KEYMISS_TLS=yes; shift; continue ;;
            --no-tls=*) export KEYMISS_TLS=no; shift; continue ;;
            --masters=?*) export KEYMISS_MASTERS=$2 ;;
            --replicas=?*) export KEYMISS_REPLICAS=$2 ;;
            --server=?*) KEYMISS_SERVER=$2 ;;
            *) sed -n 's/^# Usage: /usage: /p' "$0" >&2; exit 2 ;;
        esac
        shift 2
    done
}
