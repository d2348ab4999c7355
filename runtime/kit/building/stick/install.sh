#!/bin/sh
# Makes this computer a station, from the stick that this file lies on. Needs a POSIX shell, tar and sha256sum; no network,
# no Python. It looks at the machine first, says what it will do, and asks. Run it again after an interruption: it goes on.
#
#   sh install.sh [--dry-run] [--yes --fingerprint KEY] [--prefix DIR] [--data DIR] [--port N] [--no-service]
#   sh install.sh --remove [--yes] [--prefix DIR]
set -u
umask 022
LC_ALL=C
export LC_ALL
unset CDPATH
PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin

# Exit codes, one for each kind of refusal: documentation, page "The stick".
WRONG_USE=2 WRONG_MACHINE=20 WEAK_CPU=21 LITTLE_MEMORY=22 LITTLE_DISK=23 WRONG_CLOCK=24 DAMAGED=25 NO_PLACE=26 DECLINED=27

refuse() {
  code=$1
  shift
  printf 'install.sh: %s\n' "$*" >&2
  exit "$code"
}

say() { printf '%s\n' "$*"; }

usage() {
  sed -n '5,6s/^# *//p' "$0"
  say "  --prefix DIR        where it goes: /opt/medge as root, ~/.local/share/medge otherwise"
  say "  --data DIR          where studies go: /var/lib/medge as root, PREFIX/data otherwise"
  say "  --port N            the page's port on this computer: 8642"
  say "  --fingerprint KEY   the makers' key, as they told it to you; with it nothing is asked about the key"
  say "  --yes               ask nothing"
  say "  --dry-run           look at the machine, say what would be done, change nothing"
  say "  --no-service        do not start the station by itself with the computer"
  say "  --scratch DIR       where the installer unpacks what it runs with; it is removed at the end"
  say "  --remove            take the station away; studies stay"
}

stick=$(cd -P -- "$(dirname -- "$0")" && pwd -P) || exit "$WRONG_USE"
root=no
[ "$(id -u)" = 0 ] && root=yes
prefix='' data='' port=8642 fingerprint='' scratch_in='' yes=no dry=no remove=no service=yes

while [ $# -gt 0 ]; do
  case $1 in
    --prefix | --data | --port | --fingerprint | --scratch)
      [ $# -ge 2 ] || refuse "$WRONG_USE" "$1 needs a value; 'sh install.sh --help' says which"
      case $1 in
        --prefix) prefix=$2 ;;
        --data) data=$2 ;;
        --port) port=$2 ;;
        --fingerprint) fingerprint=$2 ;;
        --scratch) scratch_in=$2 ;;
      esac
      shift ;;
    --yes) yes=yes ;;
    --dry-run) dry=yes ;;
    --remove) remove=yes ;;
    --no-service) service=no ;;
    -h | --help) usage; exit 0 ;;
    *) refuse "$WRONG_USE" "there is no option '$1'; 'sh install.sh --help' lists them" ;;
  esac
  shift
done
case $port in
  '' | *[!0-9]*) refuse "$WRONG_USE" "--port takes a number, not '$port'" ;;
esac
if [ -z "$prefix" ]; then
  if [ "$root" = yes ]; then
    prefix=/opt/medge
  else
    [ -n "${HOME:-}" ] || refuse "$WRONG_USE" "this user has no home folder; say where the station goes with --prefix DIR"
    prefix=${XDG_DATA_HOME:-$HOME/.local/share}/medge
  fi
fi
case $prefix in
  /) refuse "$WRONG_USE" "--prefix takes a folder of the station's own, not the whole disk" ;;
  /*) ;;
  *) prefix=$(pwd -P)/$prefix ;;
esac
if [ -z "$data" ]; then
  if [ "$root" = yes ]; then data=/var/lib/medge; else data=$prefix/data; fi
fi
case $data in /*) ;; *) data=$(pwd -P)/$data ;; esac

free_at() {  # kilobytes free on a folder's disk
  df -Pk -- "$1" | { read -r _; read -r _ _ _ kilobytes _; printf '%s' "$kilobytes"; }
}

ask() {  # a question; true for "yes"
  [ "$yes" = yes ] && return 0
  printf '%s Type "yes" to go on: ' "$1"
  read -r answer || answer=
  [ "$answer" = yes ]
}

# ---- taking it away: in this shell alone, so that it works with whatever is left of an installation ----

if [ "$remove" = yes ]; then
  if ! [ -d "$prefix/versions" ] && ! [ -f "$prefix/state.json" ]; then
    refuse "$WRONG_USE" "$prefix holds no station; say where it is with --prefix DIR"
  fi
  if [ -f "$prefix/data-folder" ]; then data=$(cat "$prefix/data-folder"); fi
  say "This takes away the station in $prefix and its service."
  say "Studies, users and backups stay in $data."
  [ "$dry" = yes ] && exit 0
  ask "Take it away?" || refuse "$DECLINED" "nothing was changed"
  if [ -f "$prefix/service" ]; then
    while read -r scope unit file; do
      if command -v systemctl >/dev/null 2>&1; then
        if [ "$scope" = user ]; then
          systemctl --user disable --now "$unit" >/dev/null 2>&1
        else
          systemctl disable --now "$unit" >/dev/null 2>&1
        fi
      fi
      rm -f -- "$file"
      if command -v systemctl >/dev/null 2>&1; then
        if [ "$scope" = user ]; then systemctl --user daemon-reload >/dev/null 2>&1; else systemctl daemon-reload >/dev/null 2>&1; fi
      fi
    done <"$prefix/service"
  fi
  rm -rf -- "$prefix/current" "$prefix/versions" "$prefix/service" "$prefix/start-station" "$prefix/data-folder"
  [ "$root" = yes ] && rm -rf -- /var/cache/medge
  say "The station is gone. Studies, users and backups are in $data."
  say "$prefix keeps which keys are trusted and which version ran last; delete it to forget that, too."
  exit 0
fi

# ---- the machine: what no program of the stick could tell, since it would not run ----

target='' counter='' created='' bytes='' bootstrap_bytes='' memory='' cpu='' medge=''
[ -f "$stick/facts" ] && [ -f "$stick/kit.json" ] && [ -f "$stick/SHA256SUMS" ] && [ -f "$stick/bootstrap.tar" ] ||
  refuse "$DAMAGED" "$stick is no whole kit: its making or copying was interrupted; copy it to the stick again"
while IFS='=' read -r name value; do
  case $name in
    target) target=$value ;;
    counter) counter=$value ;;
    created) created=$value ;;
    bytes) bytes=$value ;;
    bootstrap_bytes) bootstrap_bytes=$value ;;
    memory) memory=$value ;;
    cpu) cpu=$value ;;
    medge) medge=$value ;;
  esac
done <"$stick/facts"
for number in "$counter" "$created" "$bytes" "$bootstrap_bytes" "$memory"; do
  case $number in '' | *[!0-9]*) refuse "$DAMAGED" "the file facts is damaged; copy the kit to the stick again" ;; esac
done

[ "$(uname -s)" = Linux ] || refuse "$WRONG_MACHINE" "this kit is for Linux, and this computer runs $(uname -s)"
case $(uname -m) in
  x86_64 | amd64) here=linux-x86_64 ;;
  aarch64 | arm64) here=linux-aarch64 ;;
  *) here=$(uname -m) ;;
esac
[ "$here" = "$target" ] ||
  refuse "$WRONG_MACHINE" "this kit is for $target and this computer is $here; ask for a kit for $here"

cpuinfo=${MEDGE_CPUINFO:-/proc/cpuinfo}  # tests show another machine's
case $target in *x86_64) line=flags ;; *) line=Features ;; esac  # an emulated machine shows the real one's
has=" $(sed -n "s/^$line[[:space:]]*: *//p" "$cpuinfo" 2>/dev/null | head -n 1) "
if [ "$has" != "  " ]; then
  for feature in $cpu; do
    case $has in
      *" $feature "*) ;;
      *) refuse "$WEAK_CPU" "this computer's processor lacks $feature, which the station's programs need (they need: $cpu); take a newer computer" ;;
    esac
  done
fi

total=$(sed -n 's/^MemTotal: *\([0-9]*\) kB.*/\1/p' "${MEDGE_MEMINFO:-/proc/meminfo}" 2>/dev/null)
if [ -n "$total" ] && [ "$((total * 1024 / 1000))" -lt "$((memory / 1000))" ]; then
  refuse "$LITTLE_MEMORY" "this computer has $((total / 1024)) MB of memory and a station needs at least $((memory / 1048576)) MB"
fi

now=${MEDGE_NOW:-$(date +%s)}
if [ "$now" -lt "$((created - 86400))" ]; then
  refuse "$WRONG_CLOCK" "this computer's clock says $(date), which is before this kit was made; set date and time, then run this again"
fi

existing=$prefix
while ! [ -d "$existing" ]; do existing=$(dirname -- "$existing"); done
free=$(free_at "$existing")
there=0
for have in "$prefix/versions/.$counter.partial" "$prefix/versions/$counter"; do
  [ -d "$have" ] && there=$(du -sk -- "$have" | { read -r kilobytes _; printf '%s' "$kilobytes"; })
done
needed=$((bytes / 1024 + 131072 - there))
if [ "$needed" -gt "$free" ] && ! [ -e "$prefix/current" ]; then
  refuse "$LITTLE_DISK" "$existing has $((free / 1024)) MB free and the station needs $((needed / 1024)) MB; make room, or choose another folder with --prefix DIR"
fi

say "Looking whether the copy of the kit is whole ..."
if ! sums=$(cd "$stick" && sha256sum -c SHA256SUMS 2>&1); then
  bad=$(printf '%s\n' "$sums" | sed -n 's/: *FAILED.*//p' | head -n 1)
  refuse "$DAMAGED" "${bad:-a file} on the stick is damaged or missing; copy the kit to the stick again"
fi

# ---- a machine that has a station: what runs there looks at the stick, nothing of the stick runs before ----

if [ -x "$prefix/current/bin/medge" ] && "$prefix/current/bin/medge" --version >/dev/null 2>&1; then
  say "There is a station in $prefix. Its own programs look at this kit."
  set -- kit apply "$stick" --prefix "$prefix"
  [ "$dry" = yes ] && exit 0
  ask "Bring it to medge $medge, kit $counter?" || refuse "$DECLINED" "nothing was changed"
  exec "$prefix/current/bin/medge" "$@"
fi

# ---- a place to run from: a stick may be mounted so that nothing on it runs ----

scratch=''
clean() { [ -z "$scratch" ] || rm -rf -- "$scratch"; }
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
for place in ${scratch_in:+"$scratch_in"} "${TMPDIR:-/var/tmp}" /tmp "${HOME:-/tmp}" "$existing"; do
  [ -d "$place" ] && [ -w "$place" ] || continue
  room=$(free_at "$place")
  [ "$room" -gt "$((bootstrap_bytes * 11 / 10240 + 4096))" ] || continue
  try=$place/.medge-install.$$
  mkdir -m 700 -- "$try" 2>/dev/null || continue
  printf '#!/bin/sh\nexit 0\n' >"$try/runs" && chmod 700 "$try/runs"
  if "$try/runs" 2>/dev/null; then
    scratch=$try
    break
  fi
  rm -rf -- "$try"
done
[ -n "$scratch" ] ||
  refuse "$NO_PLACE" "no folder was found with $((bootstrap_bytes / 1048576)) MB free where programs may run; give one with --scratch DIR"

tar -xf "$stick/bootstrap.tar" -C "$scratch" || refuse "$LITTLE_DISK" "unpacking into $scratch failed; make room there, or give another folder with --scratch DIR"

set -- kit install "$stick" --prefix "$prefix" --data "$data" --port "$port"
[ -n "$fingerprint" ] && set -- "$@" --fingerprint "$fingerprint"
[ "$yes" = yes ] && set -- "$@" --yes
[ "$dry" = yes ] && set -- "$@" --dry-run
[ "$service" = no ] && set -- "$@" --no-service
PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH='' "$scratch/python/bin/python3" -m medge "$@"
exit $?
