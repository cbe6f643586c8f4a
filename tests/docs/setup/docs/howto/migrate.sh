# before: left$ remaphore run --check -c /etc/remaphore/remaphore.conf
remaphore broker --data $DESK/broker --port 4222 &
for node in left right; do mkdir -p $DESK/$node/etc/remaphore && remaphore -C | sed -e "s|natsserver:.*|127.0.0.1:4222|" \
  -e "s|skew: 5s|skew: 10m|" -e "s|/path.*|$DESK/broker/remaphore.creds|" -e "s|: all|: com.example.us.$node|" > $DESK/$node/etc/remaphore/remaphore.conf; done
key() { sed -n 's/^default_identity: //p' $DESK/$1/etc/remaphore/remaphore.conf; }
echo "com.example.us.right $(key right) [ping]" >> $DESK/left/etc/remaphore/remaphore.conf
echo "com.example.us.left $(key left) [ping]" >> $DESK/right/etc/remaphore/remaphore.conf
chmod 600 $DESK/left/etc/remaphore/remaphore.conf $DESK/right/etc/remaphore/remaphore.conf
remaphore -c $DESK/right/etc/remaphore/remaphore.conf -v ping echo here &

# before: right$ remaphore config convert /etc/remaphore/remaphore.conf
HOME=$DESK/left REMAPHORE_CONFIG=$DESK/left/etc/remaphore/remaphore.toml systemctl start remaphore
