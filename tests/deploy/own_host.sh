#!/usr/bin/env bash
# Runs a command on a host of its own, as root, under `unshare --mount`:
#   own_host.sh FOLDER PYTHON COMMAND ...
# What install.sh writes to is FOLDER's; packages, kernel settings and systemd are stand-ins, and a
# virtual environment is one whose `headroom` runs on PYTHON. Users, files and links are real.
set -euo pipefail
folder="$1" python="$2"
shift 2

if [ ! -d "$folder/stand-ins" ]; then
  mkdir -p "$folder"/{etc,opt,bin,sbin,lib,stand-ins}
  chmod 0755 "$folder"/*
  cp --archive /etc/. "$folder/etc"
  for name in apt-get sysctl systemctl; do
    printf '#!/bin/sh\n' >"$folder/stand-ins/$name"
  done
  cat >"$folder/stand-ins/python3" <<END
#!/bin/sh
# python3 -m venv FOLDER
mkdir -p "\$3/bin"
cp "$folder/stand-ins/venv-python" "\$3/bin/python"
END
  cat >"$folder/stand-ins/venv-python" <<END
#!/bin/sh
# python -m pip install ... [--editable FOLDER]
[ -z "\${NO_INDEX:-}" ] || exit 1
case "\$*" in
  *--editable*)
    for last; do :; done
    printf '#!/bin/sh\nPYTHONPATH=%s exec $python -c "%s" "\$@"\n' "\$last" \
      "from loadtests.cli import console; console()" >"\$last/.venv/bin/headroom"
    chmod +x "\$last/.venv/bin/headroom"
    ;;
esac
END
  chmod +x "$folder"/stand-ins/*
fi

mount --bind "$folder/etc" /etc
mount --bind "$folder/opt" /opt
mount --bind "$folder/bin" /usr/local/bin
mount --bind "$folder/sbin" /usr/local/sbin
mount --bind "$folder/lib" /var/lib
export PATH="$folder/stand-ins:$PATH"
exec "$@"
