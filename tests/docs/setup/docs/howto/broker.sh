# not typed, it makes a user: cd /opt/remaphore/share/doc/remaphore/systemd

# not typed, it changes the firewall: nft add rule inet filter input ip saddr 192.0.2.0/24 tcp dport 4222 accept

# before: nats1$ scp /var/lib/remaphore-broker/creds/web1.creds ca.crt web1:
mkdir -p $DESK/web1 $DESK/web2

# before: nats1$ scp /var/lib/remaphore-broker/login.json nats2:
install -d -m 700 $DESK/nats2/var/lib/remaphore-broker
