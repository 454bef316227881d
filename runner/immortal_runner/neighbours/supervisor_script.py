"""The script that stands before the program of a container image, in the image's own container.

The runner can't start a process in another container, so the function's container has this script as its first process:
it starts the image's program as often as it is told to, ends it, and tells how it ended. It needs ``/bin/sh`` and
``/proc`` alone. It obeys the fifo ``order`` and tells on the fifo ``said``, both in its own folder:

====================  =================================================================================
order                 what it does
====================  =================================================================================
``clean``             ends every process of the container but itself
``list N``            says ``found N X NAME`` of each file in ``/opt/extensions``, X being 1 if it can be
                      executed, then ``listed N``
``extension N NAME``  starts an extension as the N-th process
``run N``             starts the image's program as the N-th process
``term PID``          sends SIGTERM
``kill PID``          sends SIGKILL
``status N PID``      says ``status N CAUGHT KB KILLS``: the signals that a process catches, hexadecimal, its
                      peak memory, and how often the kernel has killed in this container for memory
====================  =================================================================================

Of each process it says ``pid N PID KILLS`` as it begins and ``exit N STATUS KILLS`` once it has ended, STATUS being a
shell's: 128 and the signal's number where a signal ended it. When the last writer of ``order`` is gone, so is the
runner: then it ends everything, itself last.

The program runs in the foreground, because a shell would have one in the background ignore SIGINT and SIGQUIT; whoever
obeys while it runs is a process in the background. All names are the script's own, lest it change what the image sets.
"""

SCRIPT = r"""# Made by immortal-lambda's runner, which tells this script what to do.
im_shared=${0%/*}
[ $$ -eq 1 ] || { echo "$0 must be the first process of a container" >&2; exit 125; }

count_kills() {
    for im_file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
        [ -r "$im_file" ] || continue
        while read -r im_name im_count; do
            [ "$im_name" = oom_kill ] && echo "$im_count" && return
        done <"$im_file"
    done
    echo 0
}

tell_status() {
    im_caught=0 im_peak=0
    while read -r im_name im_value im_rest; do
        case $im_name in
            SigCgt:) im_caught=$im_value ;;
            VmHWM:) im_peak=$im_value ;;
        esac
    done <"/proc/$2/status"
    echo "status $1 $im_caught $im_peak $(count_kills)" >&4
}

list_extensions() {
    for im_file in /opt/extensions/*; do
        [ -e "$im_file" ] && [ ! -d "$im_file" ] || continue
        im_executable=0
        [ -x "$im_file" ] && im_executable=1
        echo "found $1 $im_executable ${im_file##*/}" >&4
    done
    echo "listed $1" >&4
}

obey() {
    case $1 in
        clean) kill -s KILL -- -1 ;;
        term) kill -s TERM "$2" ;;
        kill) kill -s KILL "$2" ;;
        status) tell_status "$2" "$3" ;;
    esac
}

obey_all() {
    while read -r im_order im_number im_rest; do
        obey "$im_order" "$im_number" "$im_rest"
    done
    kill -s KILL -- -1
}

end_all() {
    kill -s KILL -- -1
    wait
    im_extensions=
}

become() {
    im_number=$1
    shift
    read -r im_pid im_rest </proc/self/stat
    echo "pid $im_number $im_pid $(count_kills)" >&4
    exec 3<&- 4>&- </dev/null >"$im_shared/output" 2>&1
    echo 1000 >/proc/self/oom_score_adj
    ulimit -n 1024
    unset PWD OLDPWD SHLVL
    . "$im_shared/variables-$im_number"
    exec "$@"
}

extend() {
    (become "$1" "/opt/extensions/$2")
    echo "exit $1 $? $(count_kills)" >&4
}

exec 3<"$im_shared/order" 4>"$im_shared/said"
im_last=0 im_extensions=
echo hello >&4
while read -r im_order im_number im_rest <&3; do
    case $im_order in
        clean) end_all ;;
        list) list_extensions "$im_number" ;;
        extension | run)
            [ "$im_number" -gt "$im_last" ] || continue
            im_last=$im_number
            if [ "$im_order" = extension ]; then
                extend "$im_number" "$im_rest" &
                im_extensions=1
                continue
            fi
            obey_all <&3 &
            im_obeying=$!
            (become "$im_number" "$@")
            im_status=$?
            if [ "$im_extensions" ]; then
                kill -s KILL "$im_obeying"
                wait "$im_obeying"
            else
                end_all
            fi
            echo "exit $im_number $im_status $(count_kills)" >&4
            ;;
        *) obey "$im_order" "$im_number" "$im_rest" ;;
    esac
done 2>/dev/null
end_all 2>/dev/null
exit 0
"""
