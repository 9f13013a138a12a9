# shellcheck shell=bash
# To be sourced: where --help is among the arguments of a script, prints the comment at its top.
for argument in "$@"; do
  [[ $argument != --help && $argument != -h ]] || {
    sed -n '2,/^[^#]/{/^# shellcheck /d;s/^# \{0,1\}//p;s/^#$//p}' "$0"
    exit 0
  }
done
unset argument
