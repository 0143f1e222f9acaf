#!/usr/bin/env bash
# Ask the broker at HOST PORT for the versions of its API. An open port is no answer, and a JVM tool costs a second of
# processor time whenever it is asked.
set -eu
exec 3<>"/dev/tcp/$1/$2"
# length 10, ApiVersions (key 18) version 0, correlation id 7, no client id
printf '\0\0\0\12\0\22\0\0\0\0\0\7\377\377' >&3
# behind the answer's length: its correlation id, and no error
printf '\0\0\0\7\0\0' | cmp -s - <(head -c 10 <&3 | tail -c 6)
