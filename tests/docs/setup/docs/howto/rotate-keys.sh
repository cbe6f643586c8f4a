# before: left$ remaphore peer show > old.peer
remaphore broker --data $DESK/broker --port 4222 &
for node in left right; do remaphore init -c $DESK/$node/etc/remaphore/remaphore.toml --destination com.example.us.$node \
  --server nats://127.0.0.1:4222 --credentials $DESK/broker/remaphore.creds > $DESK/$node.peer; done
remaphore peer add -c $DESK/left/etc/remaphore/remaphore.toml --verbs '*' --file $DESK/right.peer
remaphore peer add -c $DESK/right/etc/remaphore/remaphore.toml --verbs ping,deploy --file $DESK/left.peer
sed -i 's/^allow_skew = .*/allow_skew = "10m"/' $DESK/left/etc/remaphore/remaphore.toml $DESK/right/etc/remaphore/remaphore.toml
HOME=$DESK/left REMAPHORE_CONFIG=$DESK/left/etc/remaphore/remaphore.toml systemctl start remaphore
HOME=$DESK/right REMAPHORE_CONFIG=$DESK/right/etc/remaphore/remaphore.toml systemctl start remaphore
