# What board/build, board/run and board/toolchain share: messages, tools, packages of any Debian architecture.
# Sourced, with the working directory at the top of the checkout. Everything made lies under build/.

export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C TZ=UTC
# One fixed time for all that is put into an image, so that equal input gives equal output.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1700000000}
suite=bookworm

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# One build at a time in a checkout; a second one waits and then finds everything made.
lock() {
  mkdir -p build
  exec 9>build/lock
  flock 9
}

has() { case $1 in /*) [ -e "$1" ] ;; *) command -v "$1" >/dev/null ;; esac; }

# need COMMAND:PACKAGE...: installs the packages whose commands (or files) are missing (root only).
need() {
  local pair missing=()
  for pair; do has "${pair%%:*}" || missing+=("${pair#*:}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  [ "$(id -u)" = 0 ] || die "missing Debian packages; as root: apt-get install --no-install-recommends ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get -qq update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >&2 </dev/null
}

# need_cargo: Rust 1.95 or newer: rustup's where it is installed, else Debian's (cargo-web; plain cargo is too old).
need_cargo() {
  local version
  [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
  need cargo:cargo-web /etc/ssl/certs/ca-certificates.crt:ca-certificates
  version=$(cargo --version | sed 's/^cargo 1\.\([0-9]*\).*/\1/')
  [ "$version" -ge 95 ] || die "cargo 1.$version is too old: install Rust 1.95 or newer with rustup, or Debian's cargo-web"
}

# as_root COMMAND...: files made or read by it belong to root, without being root.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else unshare --map-root-user "$@"; fi
}

# newer TARGET INPUT...: true when TARGET is missing or older than any file under an INPUT.
newer() {
  local target=$1
  shift
  [ -e "$target" ] || return 0
  [ -n "$(find "$@" -newer "$target" -print -quit)" ]
}

# sources: the machine's own entries for Debian, as one-line entries with the components that boards need.
# Reads deb822 files (*.sources) and one-line lists, so that a board comes from the mirrors that the machine uses.
sources() {
  local file
  {
    for file in /etc/apt/sources.list.d/*.sources; do
      ! [ -e "$file" ] || awk '
        function flush() { if (types ~ /(^| )deb( |$)/ && enabled != "no") for (u = 1; u <= split(uris, us, " "); u++)
          for (s = 1; s <= split(suites, ss, " "); s++) print us[u], ss[s], trusted, key
          types = uris = suites = key = enabled = trusted = "" }
        /^#/ { next }
        /^[ \t]*$/ { flush(); next }
        /^[ \t]/ { if (field == "uris") uris = uris " " $0; if (field == "suites") suites = suites " " $0; next }
        { field = tolower($0); sub(/:.*/, "", field); value = $0; sub(/^[^:]*:[ \t]*/, "", value)
          if (field == "types") types = value; if (field == "uris") uris = value; if (field == "suites") suites = value
          if (field == "enabled") enabled = value; if (field == "trusted") trusted = value
          if (field == "signed-by" && value ~ /^\//) key = value }
        END { flush() }' "$file"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
      ! [ -e "$file" ] || awk '
        $1 == "deb" { key = trusted = ""; i = 2
          if ($2 ~ /^\[/) { while ($i !~ /\]$/ && i < NF) i++
            options = $0; sub(/^[^[]*\[/, "", options); sub(/\].*/, "", options)
            if (match(options, /signed-by=[^ ]*/)) key = substr(options, RSTART + 10, RLENGTH - 10)
            if (options ~ /trusted=yes/) trusted = "yes"
            i++ }
          print $i, $(i + 1), (trusted == "" ? "-" : trusted), key }' "$file"
    done
  } | awk -v suite="$suite" '
    $2 == suite || $2 == suite "-security" || $2 == suite "-updates" {
      key = "/usr/share/keyrings/debian-archive-keyring.gpg"
      if ($NF ~ /^\//) key = $NF
      option = $3 == "yes" ? "[trusted=yes]" : "[signed-by=" key "]"
      components = $2 == suite ? "main non-free-firmware" : "main"
      print "deb", option, $1, $2, components }' | sort -u
}

# private_apt: an apt state of our own under build/apt for both architectures. Nothing is installed from it, and the
# machine gets no foreign architecture: apt would otherwise insist that its own libraries have the same version.
private_apt() {
  local dir=$PWD/build/apt
  export APT_CONFIG=$dir/apt.conf
  # Its paths are absolute: a checkout that was moved or copied needs another.
  [ -e "$dir/.updated" ] && grep -qxF "Dir \"$dir/\";" "$dir/apt.conf" && return 0
  mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d}
  : >"$dir/state/status"
  APT_CONFIG='' sources >"$dir/etc/sources.list"
  [ -s "$dir/etc/sources.list" ] || die "no Debian $suite in the machine's /etc/apt sources: boards are built from them"
  {
    # How this machine reaches its mirrors (proxy, time checks) holds for us too.
    APT_CONFIG='' apt-config dump Acquire | grep '";$' || true
    cat <<CONF
Dir "$dir/";
Dir::State "$dir/state";
Dir::State::status "$dir/state/status";
Dir::Cache "$dir/cache";
Dir::Etc "$dir/etc";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
CONF
  } >"$dir/apt.conf"
  say "reading Debian's package lists"
  apt-get -qq update >&2
  touch "$dir/.updated"
}

# fetch ROOT PACKAGE[:ARCH]...: downloads packages of this Debian release and unpacks them below ROOT.
fetch() {
  local root=$1 debs deb
  shift
  private_apt
  mkdir -p "$root"
  debs=$(mktemp -d -p build)
  (cd "$debs" && apt-get -qq download "$@" >&2) || die "cannot download $*"
  for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root" || die "cannot unpack ${deb##*/}"; done
  rm -rf "$debs"
}

# depends PACKAGE[:ARCH] PATTERN: the first package that it depends on whose whole name matches the sed pattern.
depends() {
  private_apt
  apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)\(:.*\)\{0,1\}$/\1/p" | head -n 1
}

# load BOARD: reads a board's folder. Sets board, here (its folder), out (where its image is made) and card (the SD
# card's image, empty for a board without one) beside what board.env sets.
load() {
  board=$1 here=board/$1 out=build/$1 card='' dtb='' dtbs=() disk=() line='' arguments=''
  [ -e "$here/board.env" ] || die "no board $board; there are: $(boards)"
  . "$here/board.env"
  [ -z "${boot_size:-}" ] || card=$out/$board.img
  mkdir -p "$out"
}

boards() { local each; for each in board/*/board.env; do each=${each%/*}; printf '%s ' "${each#board/}"; done; }

# archive DIR: DIR as a newc cpio archive on stdout, the same bytes for the same files.
archive() {
  find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  (cd "$1" && find . -mindepth 1 | sort | cpio --quiet --reproducible -o -H newc -R 0:0)
}
