#!/usr/bin/env bash
# Start the cluster of docker-compose.yml in containers. In development the first start makes the secrets.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/need-compose.sh

# who owns the secrets' files runs the containers that read them; root does not, so it takes a number for that
uid=$(id -u) gid=$(id -g)
if [ "$uid" = 0 ]; then uid=10001 gid=10001; fi
touch .env
grep -q '^CLUSTER_UID=' .env || printf 'CLUSTER_UID=%s\nCLUSTER_GID=%s\n' "$uid" "$gid" >> .env
set -a
. ./.env
set +a
secrets=${CLUSTER_SECRETS:-./secrets}

docker compose build
if [ "${DAICHO_ENVIRONMENT:-development}" = development ]; then
  mkdir -p -m 700 "$secrets"
  if [ "$(id -u)" = 0 ]; then chown "$CLUSTER_UID:$CLUSTER_GID" "$secrets"; fi
  docker compose run --rm --no-deps secrets
fi
docker compose up --detach --wait --wait-timeout 300

cat <<TEXT

The cluster runs:
  http://127.0.0.1:8080 and :8081   the API, two replicas         http://127.0.0.1:3000   Grafana
                                                                  http://127.0.0.1:9090   Prometheus
Try:
  docker compose ps
  curl http://127.0.0.1:8080/readyz
  docker compose run --rm --no-deps secrets token me --secrets /secrets      (an operator's token, for development)
  make down                                                        (stops it; what it has stored stays)
TEXT
