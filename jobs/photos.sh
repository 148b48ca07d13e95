#!/usr/bin/env bash
# Fetches the 14 photographs of Debian's Lomiri wallpapers (1365×1074 to 6028×3391 pixels) into a folder.
#
#   jobs/photos.sh DEST
#
# Needs no root if apt's package lists are there. Does nothing if DEST has them already; DEST is filled at once or not
# at all. Their authors and licences (CC BY-SA) are in DEST/CREDITS-*.txt.
set -euo pipefail

# The packages' drawn pictures (umang, Fossa, Infinite-Sea, Painting-Colors) and the embossed texture (analogpattern)
# are no photographs and stay out.
photos=(
  lomiri-wallpapers-16.04/Bridge_by_Sander_Klootwijk.jpg
  lomiri-wallpapers-16.04/Dragonfly_by_Bolly.jpg
  lomiri-wallpapers-16.04/Picture_0B_by_freespace.jpg
  lomiri-wallpapers-16.04/Picture_1A_by_freespace.jpg
  lomiri-wallpapers-16.04/Wine_by_Jakkub_Mede.jpg
  lomiri-wallpapers-16.04/aitzgorri_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04/free_by_Peter_Nerlich.jpg
  lomiri-wallpapers-16.04/friends_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04/greentock_by_Peter_Nerlich.jpg
  lomiri-wallpapers-16.04/life_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04/picosdeeuropa_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04/seeding_by_Clements_Engelhardt.jpg
  lomiri-wallpapers-16.04/sunset_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-20.04/Kleiber_by_Lukas_Baubkus.jpg
)
packages=(lomiri-wallpapers-16.04 lomiri-wallpapers-20.04)

say() { echo "photos: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

[[ $# -eq 1 && -n $1 && $1 != -* ]] || fail "usage: jobs/photos.sh DEST"
dest=${1%/}
dest=${dest:-/}

is_complete() {
  local photo package
  for photo in "${photos[@]}"; do [[ -s $dest/${photo#*/} ]] || return 1; done
  for package in "${packages[@]}"; do [[ -s $dest/CREDITS-$package.txt ]] || return 1; done
}

if is_complete; then
  say "all ${#photos[@]} are in $dest already"
  exit 0
fi
if [[ -e $dest ]]; then
  [[ -d $dest ]] || fail "$dest is in the way: it is no folder"
  [[ -z $(ls -A "$dest") ]] || fail "$dest holds other things and not all photographs: empty it or name another folder"
fi
for tool in apt-get apt-cache dpkg; do
  command -v "$tool" >/dev/null || fail "$tool is missing: this needs Debian or a relative of it"
done

parent=$(dirname "$dest")
mkdir -p "$parent" || fail "cannot make $parent"
# Beside DEST, so that the last step is a rename within one file system.
scratch=$(mktemp -d "$(cd "$parent" && pwd)/.photos.XXXXXX") || fail "cannot write into $parent"
trap 'rm -rf "$scratch"' EXIT

is_known() { [[ -n $(apt-cache madison "$1" 2>/dev/null) ]]; }
download() { (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"); }
update() {
  [[ $(id -u) -eq 0 ]] || fail "apt's package lists are missing or old: run \"sudo apt-get update\", then this again"
  say "updating apt's package lists"
  apt-get -qq update || fail "apt-get update failed: is the network there?"
}

for package in "${packages[@]}"; do
  if ! is_known "$package"; then
    update
    is_known "$package" || fail "apt knows no package $package: Debian 12 or later has it, in main"
  fi
done
say "downloading ${packages[*]} (27 MB)"
if ! download; then
  # Lists may name a version that the mirror has replaced.
  update
  download || fail "the packages could not be downloaded: is the network there?"
fi

mkdir "$scratch/ready"
for package in "${packages[@]}"; do
  dpkg -x "$scratch/$package"_*.deb "$scratch/$package" || fail "$package could not be unpacked"
  cp "$scratch/$package/usr/share/doc/$package/copyright" "$scratch/ready/CREDITS-$package.txt"
done
for photo in "${photos[@]}"; do
  cp "$scratch/${photo%%/*}/usr/share/backgrounds/${photo#*/}" "$scratch/ready/" || fail "$photo is not in its package"
done
chmod 755 "$scratch/ready"
# -T: an empty DEST is replaced; if another run was quicker, DEST is full and the rename fails instead of landing in it.
if ! mv -T "$scratch/ready" "$dest" 2>/dev/null; then
  is_complete || fail "cannot write $dest"
fi
say "${#photos[@]} photographs are in $dest"
