#!/usr/bin/env bash
# Makes jobs/tiny/package anew: a random package, trained on jobs/photos by jobs/tiny/tiny.toml.
#
#   jobs/tiny/make.sh [DEST]
#
# Needs target/release/jobctl. What is trained already is not trained again.
set -euo pipefail
cd "$(dirname "$0")/../.."

jobctl=target/release/jobctl
dest=${1:-jobs/tiny/package}
[[ ! -e $dest ]] || { echo "tiny: $dest is there already" >&2; exit 1; }
jobs/photos.sh jobs/photos
if [[ ! -e jobs/models/small ]]; then
  "$jobctl" model init --family sd3 --preset small --no-t5 jobs/models/small
fi
"$jobctl" run jobs/tiny/tiny.toml
"$jobctl" model export tiny base "$dest"
