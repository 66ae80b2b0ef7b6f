#!/bin/sh
# Gets what `native/` is built with and this machine lacks: the headers of ONNX Runtime and nlohmann's JSON, from Debian's
# packages, ONNX Runtime's library out of the Python package, libFLAC and libbrotlidec. No root, and nothing of the system changes.
#
#   native/tools.sh OUT PYTHON      OUT/onnxruntime/{include,lib}, OUT/include
set -eu
out=$1 python=$(command -v "$2")
case $python in /*) ;; *) python=$PWD/$python ;; esac
for tool in apt-get dpkg; do
    command -v $tool >/dev/null || { echo "native/tools.sh needs $tool (Debian or Ubuntu)" >&2; exit 7; }
done
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f $keys ] || { echo "native/tools.sh needs $keys: apt-get install debian-archive-keyring" >&2; exit 7; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
# Debian 12 has no libonnxruntime-dev; the headers of 13 compile everywhere. The same mirror as the system's.
mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' 'Identifier: Packages' 2>/dev/null | grep '/debian/\?$' | head -n 1)
[ -n "$mirror" ] || { echo "native/tools.sh finds no mirror of Debian among this system's sources: apt-get update" >&2; exit 7; }
echo "deb [signed-by=$keys] $mirror trixie main" > "$work/release.list"
cd "$work"
get() {
    LC_ALL=C apt-get -q -y -o Dir::Etc::sourcelist="$work/release.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User= \
        -o Acquire::Languages=none -o Acquire::Retries=2 "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 7; }
}
get update
get download libonnxruntime-dev nlohmann-json3-dev
for package in *.deb; do dpkg -x "$package" "$work/root"; done
# Libraries of this system's own release, because they are run. Without them rendered phrases are spoken, and compressed
# artifacts are not unpacked.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
(
    rm -f *.deb
    echo "deb [signed-by=$keys] $mirror $codename main" > "$work/release.list"
    get update
    get download libflac-dev libogg0 libbrotli-dev libbrotli1
    get download "$(dpkg-deb -f libflac-dev_*.deb Depends | grep -o 'libflac[0-9]*' | head -n 1)"
    for package in *.deb; do dpkg -x "$package" "$work/own"; done
) || echo "native/tools.sh: no libFLAC and libbrotlidec for '$codename'" >&2
library=$("$python" -c 'import importlib.util, pathlib
print(*pathlib.Path(importlib.util.find_spec("onnxruntime").origin).parent.glob("capi/libonnxruntime.so.*"))')
[ -n "$library" ] || { echo "$python has no onnxruntime: pip install onnxruntime" >&2; exit 7; }
mkdir -p "$out/onnxruntime/lib"
cp -r "$work/root/usr/include" "$out/"
if [ -d "$work/own" ]; then
    cp -r "$work"/own/usr/include/FLAC "$work"/own/usr/include/brotli "$out/include/"
    cp -d "$work"/own/usr/lib/*/lib*.so* "$out/onnxruntime/lib/"
fi
ln -sfn "$out/include" "$out/onnxruntime/include"
ln -sf "$library" "$out/onnxruntime/lib/libonnxruntime.so.1"
