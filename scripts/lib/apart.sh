# shellcheck shell=bash
# To be sourced, for what has to leave no process and no mount behind.

# The process that waits for the namespaces.
apart=''

# apart OPTIONS COMMAND...: runs the command in process and mount namespaces of its own (OPTIONS of unshare(1)
# add more), which end with it. Its status; 77, and a line, where namespaces cannot be made.
apart() {
  local status=0
  unshare --mount --pid --fork true 2>/dev/null || {
    echo 'skipped: no namespaces can be made: it needs root, and no container around it'
    return 77
  }
  unshare --mount --pid --fork --kill-child --mount-proc --propagation private "$@" &
  apart=$!
  wait $apart || status=$?
  apart=''
  return $status
}

# For the trap of EXIT: ends the namespaces if they are still there. All that ran in them is gone then.
end_apart() {
  [[ -n $apart ]] || return 0
  # The first process there, whose end is that of all; its parent waits for it.
  kill -KILL "$(<"/proc/$apart/task/$apart/children")" 2>/dev/null || kill -KILL "$apart" 2>/dev/null || true
  wait "$apart" || true
}
