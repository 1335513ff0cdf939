#!/bin/sh
# Brings the real peers that tests talk to: Apache Kafka's jars (Maven), KafkaJS (npm), franz-go (Go), Apache ZooKeeper (Maven).
# A tool that is missing is installed where we may (root on a Debian, CI only); otherwise its tests are skipped and say so.
set -eu
cd "$(dirname "$0")/.."

want() { # want COMMAND DEBIAN-PACKAGE...
    command -v "$1" >/dev/null 2>&1 && return 0
    command=$1
    shift
    if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq "$@" >&2 || true
    fi
    command -v "$command" >/dev/null 2>&1 && return 0
    echo "peers: $command is missing (Debian: apt install $*); the tests that need it are skipped" >&2
    return 1
}

want java default-jdk-headless || true
want mvn maven || true
want node nodejs || true
want npm npm || true
want go golang-go || true # any: one that is too old for franz-go fetches a newer one, as a Go module
# The same code that the tests use, so that a fetch here is a fetch saved there.
.venv/bin/python -m tests.clients.programs
.venv/bin/python -m tests.zookeeper_process
exit 0
