#!/usr/bin/env bash
# The tests on AArch64 (Graviton, Ampere, Raspberry Pi), on a machine that is none: a toolchain for it, from Debian's unstable suite, in a
# directory of its own (about 2 GB, and as much for what it compiles), and an emulator. By hand, as root on Debian; all tests take an hour on two cores.
#
#   apt-get install debootstrap qemu-user-static
#   tests/aarch64.sh DIRECTORY [ARGUMENTS OF cargo test]      --workspace if left out
#
# It shows that the program is right there, not how fast it is. One test of a program that is not there fails: the emulator does not tell.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${1:?"expected a directory for the toolchain, such as /tmp/aarch64"}
shift
[ $# -gt 0 ] || set -- --workspace

inside() {
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

if [ ! -x "$root/usr/bin/cargo" ]; then
    debootstrap --variant=minbase sid "$root"
    inside dpkg --add-architecture arm64
    # A mirror's copy of this suite may be some weeks old.
    inside apt-get -o Acquire::Check-Valid-Until=false update
    inside apt-get install -y --no-install-recommends cargo curl gcc gcc-aarch64-linux-gnu libc6-dev libc6-dev-arm64-cross \
        libstd-rust-dev:arm64 make perl python3
fi
# What tests start is for the emulator too, so the kernel has to know it.
formats=/proc/sys/fs/binfmt_misc
[ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats
[ -e $formats/qemu-aarch64 ] || grep -v '^#' /usr/lib/binfmt.d/qemu-aarch64.conf >$formats/register

cargo fetch --target aarch64-unknown-linux-gnu
mkdir -p "$root/kindred" "$root/registry" "$root/target"
trap 'umount -q "$root/kindred" "$root/registry" "$root/proc" || true' EXIT
mount --bind . "$root/kindred"
mount --bind "${CARGO_HOME:-$HOME/.cargo}/registry" "$root/registry"
mount -t proc proc "$root/proc"
mkdir -p "$root/root/.cargo"
ln -sfn /registry "$root/root/.cargo/registry"
inside CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    cargo test --manifest-path /kindred/Cargo.toml --target aarch64-unknown-linux-gnu "$@"
