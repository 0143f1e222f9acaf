#!/usr/bin/env bash
# Say in one line what is missing where the cluster cannot run in containers.
set -euo pipefail
say() { echo "$1. Without containers: make demo-cluster plays the same cluster as processes." >&2; exit 1; }
command -v docker > /dev/null || say "This needs Docker Engine 25 with Compose 2.24, or newer, and there is no docker command"
docker compose version > /dev/null 2>&1 || say "This needs Compose 2.24 or newer, and docker has no compose command (package docker-compose-plugin)"
docker info > /dev/null 2>&1 || say "No Docker engine answers: start it, or ask for the right to use it (group docker)"
