# Process 1 of a Worker's user container: runs what the supervisor tells it to. See protocol.py for the commands.
#
# Needs nothing but a POSIX shell; `sleep`, `setsid`, `chmod`, `rm` and `env` are used where the image has them. All
# names begin with _tidemill, so that nothing of the image's environment is overwritten before a script sees it.

_tidemill_root=$1
_tidemill_dir=$1/runner
_tidemill_applets=${2-} # a directory of programs that was brought along: for what the image does not have
if [ $$ -ne 1 ]; then # signals go to all processes there are: elsewhere that would be everybody's
  echo "tidemill-runner: must be process 1 of a container, is $$" >&2
  exit 70
fi
[ -z "${BASH_VERSION-}" ] || set -o posix
set +e +u

_tidemill_find_applets() { # the image's own programs, and the user's PATH, come first
  if [ -z "$_tidemill_applets" ]; then return; fi
  case :${PATH-}: in *:"$_tidemill_applets":*) ;; *) export PATH="${PATH:+$PATH:}$_tidemill_applets" ;; esac
}

_tidemill_find_applets
_tidemill_setsid=$(command -v setsid 2>/dev/null)
_tidemill_active=0
_tidemill_events=/dev/null
for _tidemill_file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
  if [ -r "$_tidemill_file" ]; then
    _tidemill_events=$_tidemill_file
    break
  fi
done

_tidemill_count_kills() { # _tidemill_kills: how often the kernel killed here for want of memory
  _tidemill_kills=0
  while read -r _tidemill_key _tidemill_value _tidemill_rest; do
    if [ "$_tidemill_key" = oom_kill ]; then _tidemill_kills=$_tidemill_value; fi
  done <"$_tidemill_events"
}

_tidemill_pause() {
  sleep 0.02 2>/dev/null || sleep 1 2>/dev/null || ( : )
}

_tidemill_need() { # the command file calls this: _tidemill_program is the program $1; fail when there is none
  _tidemill_find_applets
  _tidemill_program=$1
  case $1 in
    */*) if [ -x "$1" ] && [ ! -d "$1" ]; then return; fi ;;
    *) if command -v "$1" >/dev/null 2>&1; then return; fi ;;
  esac
  if [ -n "$_tidemill_applets" ] && [ -x "$_tidemill_applets/${1##*/}" ]; then # `#!/usr/bin/env`
    _tidemill_program=$_tidemill_applets/${1##*/}
    return
  fi
  _tidemill_refuse "$1: no such program"
}

_tidemill_refuse() {
  trap - EXIT
  echo "failed $_tidemill_id start $*" >&4
  exit 127
}

_tidemill_begin() { # in a process of its own: becomes the script
  # `exec` failed; bash does not get here, so there it looks like the script's own exit code 126
  trap 'echo "failed $_tidemill_id start $_tidemill_program: cannot be executed" >"$_tidemill_dir/answers"' EXIT
  trap - HUP INT QUIT TERM USR1 USR2 PIPE ALRM
  ulimit -c 0 2>/dev/null
  umask 0
  . "$_tidemill_dir/$_tidemill_id.sh"
  read -r _tidemill_pid _tidemill_rest </proc/self/stat
  echo "started $_tidemill_id $_tidemill_pid" >&4
  exec </dev/null >"$_tidemill_dir/$_tidemill_id.out" 2>&1 4>&-
  unset OLDPWD SHLVL
  if [ -n "$_tidemill_setsid" ]; then exec "$_tidemill_setsid" "$@"; else exec "$@"; fi
}

_tidemill_run() { # in the background: the script's end is told by whoever waits for it
  exec 3<&- 2>/dev/null
  ( _tidemill_begin )
  _tidemill_code=$?
  _tidemill_count_kills
  echo "exit $_tidemill_id $_tidemill_code $_tidemill_kills" >&4
}

_tidemill_is_of() { # whether process $1 belongs to the script with session $2 in the workspace $3
  read -r _tidemill_line <"/proc/$1/stat" || return 1
  set -- "$1" "$2" "$3" ${_tidemill_line##*) }
  if [ "$4" = Z ]; then return 1; fi
  if [ "$7" = "$2" ]; then return 0; fi
  while read -r _tidemill_line || [ -n "$_tidemill_line" ]; do # without the zeros between its variables
    case $_tidemill_line in
      *"TMP_OUTPUT_DIR=$_tidemill_root/$3/output"* | *"TIDEMILL_WORKSPACE=$3."*) return 0 ;;
    esac
  done <"/proc/$1/environ"
  return 1
}

_tidemill_signal_each() { # signal $1 to all of the script with session $2 in the workspace $3; fails when there are none
  _tidemill_found=1
  for _tidemill_each in /proc/[0-9]*; do
    _tidemill_each=${_tidemill_each#/proc/}
    if [ "$_tidemill_each" -ne 1 ] && _tidemill_is_of "$_tidemill_each" "$2" "$3"; then
      kill "-$1" "$_tidemill_each" && _tidemill_found=0
    fi
  done
  return $_tidemill_found
} 2>/dev/null

_tidemill_signal() { # signal $2 to the script $1 with process id $3 in the workspace $4
  if [ -n "$_tidemill_setsid" ]; then
    kill "-$2" "-$3" || kill "-$2" "$3"
  elif [ $_tidemill_active -eq 1 ]; then
    kill "-$2" -1
  else
    _tidemill_signal_each "$2" "$3" "$4"
  fi
  if [ "$2" = KILL ]; then _tidemill_end "$1"; fi
} 2>/dev/null

_tidemill_end() { # the script $1 was killed, and perhaps whoever would have told
  eval "wait \$_tidemill_of_$1"
  _tidemill_count_kills
  echo "exit $1 137 $_tidemill_kills" >&4
} 2>/dev/null

_tidemill_check() { # tell the end of script $1 when whoever should have told it was killed
  _tidemill_state=
  eval "read -r _tidemill_pid _tidemill_name _tidemill_state _tidemill_rest </proc/\$_tidemill_of_$1/stat"
  case $_tidemill_state in '' | Z) _tidemill_end "$1" ;; esac
} 2>/dev/null

_tidemill_open() { # let everybody read what is in the directory $1, which may be another user's; no link is followed
  _tidemill_out=$1
  set --
  for _tidemill_each in "$_tidemill_out"/* "$_tidemill_out"/.[!.]* "$_tidemill_out"/..?*; do
    if [ -h "$_tidemill_each" ] || [ ! -e "$_tidemill_each" ]; then continue; fi
    set -- "$@" "$_tidemill_each"
    if [ $# -ge 100 ]; then
      chmod -R a+rwX "$@"
      set --
    fi
  done
  if [ $# -gt 0 ]; then chmod -R a+rwX "$@"; fi
}

_tidemill_clear() { # kill all that script $1 (process id $2, workspace $3) left; open its output for the supervisor
  _tidemill_round=0
  while [ $_tidemill_round -lt 200 ]; do
    if [ $_tidemill_active -le 1 ]; then kill -KILL -1; else _tidemill_signal_each KILL "$2" "$3"; fi || break
    if [ $_tidemill_round -lt 5 ]; then ( : ); else _tidemill_pause; fi # either reaps what has ended
    _tidemill_round=$((_tidemill_round + 1))
  done
  eval "wait \$_tidemill_of_$1; unset _tidemill_of_$1"
  _tidemill_active=$((_tidemill_active - 1))
  _tidemill_open "$_tidemill_root/$3/output"
  _tidemill_count_kills
  echo "cleared $1 $_tidemill_kills" >&4
} 2>/dev/null

trap 'exit 0' TERM INT
trap 'exit 0' EXIT # the supervisor may end while we come
until [ -p "$_tidemill_dir/answers" ]; do
  if [ -e "$_tidemill_root/ended" ]; then exit 0; fi
  _tidemill_pause
done
exec 3<"$_tidemill_dir/commands" 4>"$_tidemill_dir/answers"
# From here on the supervisor says when to end, by closing its end; PIPE: it is gone, and the next read says so.
trap '' HUP INT QUIT TERM USR1 USR2 PIPE ALRM
_tidemill_count_kills
trap - EXIT
echo "ready 1 $_tidemill_kills" >&4

while read -r _tidemill_verb _tidemill_id _tidemill_a _tidemill_b _tidemill_c <&3; do
  case $_tidemill_verb in
    run)
      _tidemill_active=$((_tidemill_active + 1))
      _tidemill_run &
      eval "_tidemill_of_$_tidemill_id=$!"
      ;;
    signal) _tidemill_signal "$_tidemill_id" "$_tidemill_a" "$_tidemill_b" "$_tidemill_c" ;;
    check) _tidemill_check "$_tidemill_id" ;;
    clear) _tidemill_clear "$_tidemill_id" "$_tidemill_a" "$_tidemill_b" ;;
    wipe)
      rm -rf "$_tidemill_root/$_tidemill_a" 2>/dev/null
      echo "wiped $_tidemill_id" >&4
      ;;
  esac
done
exit 0
