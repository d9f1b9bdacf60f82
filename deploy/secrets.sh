#!/bin/sh
# Makes the secrets of compose.yaml in secrets/, one a file, where there is none yet. Prints none of them.
set -eu
cd "$(dirname "$0")/.."
umask 077
mkdir -p secrets

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder is closed to others, and the files are not: in a container, another user reads them.
keep() {
    [ -s "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"
    chmod 444 "secrets/$1"
}

keep api_key "tl-$(random)"
keep metrics_key "$(random)"
keep redis_password "$(random)"
keep database_password "$(random)"
keep grafana_password "$(random)"
keep state_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
keep database_url "postgresql://thinkline:$(cat secrets/database_password)@postgres:5432/thinkline"
