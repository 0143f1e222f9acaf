#!/usr/bin/env bash
# Ask the broker at HOST PORT for the versions of its API. An open port is no answer, and a JVM tool costs a second of
# processor time whenever it is asked.
set -eu
exec 3<>"/dev/tcp/$1/$2"
# length 10, ApiVersions (key 18) version 0, correlation id 7, no client id
printf '\0\0\0\12\0\22\0\0\0\0\0\7\377\377' >&3
# length of the answer, its correlation id, no error
answer=$(head -c 10 <&3 | od -An -v -tx1 | tr -d ' \n')
test "${answer:8}" = 000000070000
