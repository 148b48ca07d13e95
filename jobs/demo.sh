#!/usr/bin/env bash
# Runs the demo's sweep and says what to do with what it found.
#
#   jobs/demo.sh               on Debian's Lomiri photographs, which are fetched once
#   PHOTOS=DIR jobs/demo.sh    on the pictures of DIR: jobs/photos becomes a link to it
#
# Can be run again: what is done is not done again. Needs target/release/jobctl.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "demo: $*" >&2; }
jobctl=target/release/jobctl

if [[ -n ${PHOTOS:-} ]]; then
  [[ -d $PHOTOS ]] || { say "PHOTOS=$PHOTOS is no folder"; exit 1; }
  if [[ -e jobs/photos && ! -L jobs/photos ]]; then
    say "jobs/photos is a folder already: move it away, so that it can be a link to $PHOTOS"
    exit 1
  fi
  ln -sfn "$(realpath "$PHOTOS")" jobs/photos
fi
if [[ -L jobs/photos ]]; then
  say "the photographs are those of $(readlink jobs/photos)"
else
  jobs/photos.sh jobs/photos
fi

if [[ ! -e jobs/models/tiny-sd3 ]]; then
  say "making a tiny package of Stable Diffusion 3 with random weights"
  "$jobctl" model init --family sd3 --preset tiny jobs/models/tiny-sd3
fi

said=$(mktemp)
trap 'rm -f "$said"' EXIT
status=0
"$jobctl" run jobs/demo.toml | tee "$said" || status=$?
report=$(sed -n 's/^report *//p' "$said")
[[ -n $report ]] || exit "$status"
# The second part needs pictures to learn from and one to hold out: a folder of one, or of very small ones, has none.
"$jobctl" run jobs/demo-training.toml | tee "$said" || say "the second part, fine-tuning, did not end well"
training=$(sed -n 's/^report *//p' "$said")

cat <<END

The report: $(realpath "$report")
${training:+Of the second part, fine-tuning: $(realpath "$training")}

Three queries to try:

  # Mean GLCM Score of each source. Noise stands above the photographs.
  $jobctl db psql -c "select source, n, round(mean::numeric, 3) as glcm_score from leaderboard where sweep like 'demo-%' and metric = 'glcm_score' order by mean desc"

  # One photograph on its way down the ladder of JPEG qualities.
  $jobctl db psql -c "select sample, level as quality, metric, round(value::numeric, 4) as value from metric_history where sweep like 'demo-%' and damage = 'jpeg' and metric in ('psnr', 'ssim') and sample = (select min(sample) from metric_history) order by metric, level desc"

  # The compression ratio of each source as a whole, beside how many pictures it has.
  $jobctl db psql -c "select source, round(value::numeric, 2) as compression_ratio, n from set_score_history where sweep like 'demo-%' order by value"

A sweep of your own: copy jobs/demo.toml to jobs/mine.toml, put your folders into it, and run

  $jobctl run jobs/mine.toml

README.md explains every key. The private Postgres goes on running: "$jobctl db stop" ends it.
END
exit "$status"
