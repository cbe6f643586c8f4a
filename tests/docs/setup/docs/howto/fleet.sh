# not typed, it installs: python3 -m venv /opt/remaphore-0.1.0

# before: control$ remaphore init --destination com.example.control --server nats://nats.example.com:4222 \
remaphore broker --data $DESK/broker --listen nats.example.com:4222 &
git init --quiet --bare --initial-branch main $DESK/git/fleet/peers.git
for node in control web1 web2 web13; do mkdir -p $DESK/$node/etc/remaphore/hooks.d/status && \
  printf '#!/bin/sh\necho up\n' > $DESK/$node/etc/remaphore/hooks.d/status/10-up && chmod -R 755 $DESK/$node/etc/remaphore/hooks.d && \
  cp $DESK/broker/remaphore.creds $DESK/$node/etc/remaphore/nats.creds && \
  printf '[user]\nname = control\nemail = control@example.com\n[url "%s/git/"]\ninsteadOf = "git.example.com:"\n' $DESK > $DESK/$node/.gitconfig; done

# before: control$ scp web1:web1.peer web2:web2.peer .
for node in control web1 web2; do sed -i 's/^allow_skew = .*/allow_skew = "10m"/; /^state_dir/d' $DESK/$node/etc/remaphore/remaphore.toml; done

# before: control$ scp web13:web13.peer .
sed -i 's/^allow_skew = .*/allow_skew = "10m"/; /^state_dir/d' $DESK/web13/etc/remaphore/remaphore.toml
# before: web1$ remaphore check | grep 'created by a newer remaphore'
HOME=$DESK/web1 systemctl stop remaphore
python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("PRAGMA user_version = 99")' $DESK/web1/var/lib/remaphore/main/ledger.sqlite3
HOME=$DESK/web1 REMAPHORE_CONFIG=$DESK/web1/etc/remaphore/remaphore.toml STATE_DIRECTORY=$DESK/web1/var/lib/remaphore systemctl start remaphore

# not typed, it uninstalls: systemctl disable --now remaphore
