#!/usr/bin/env bash
# Sets up an SSH server and a client that may log in there. OpenSSH looks for its files in the home of the
# user's account, which is not this one: so `ssh` gets them as options.
set -euo pipefail
mkdir -p .ssh bin
if ! test -e "$DOCS_CLONE/../ssh"; then
  mkdir "$DOCS_CLONE/../ssh"
  ssh-keygen -q -t ed25519 -N '' -f "$DOCS_CLONE/../ssh/id"
  ssh-keygen -q -t ed25519 -N '' -f "$DOCS_CLONE/../ssh/host"
fi
keys=$(realpath "$DOCS_CLONE/../ssh")
cat > .ssh/sshd_config <<END
Port 22
ListenAddress 127.0.0.1
HostKey $keys/host
AuthorizedKeysFile $keys/id.pub
StrictModes no
PidFile none
UsePAM no
END
cat > .deno-ssh-defaults <<END
Include $HOME/.ssh/config
Host *
  IdentityFile $keys/id
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
END
mkdir -p /run/sshd .deno/bin
printf '#!/bin/sh\nexec %s -F "$HOME/.deno-ssh-defaults" "$@"\n' "$(command -v ssh)" > .deno/bin/ssh
chmod +x .deno/bin/ssh
