# before: left$ remaphore check
fleet left right &
mkdir -p $DESK/right/etc/remaphore/hooks.d/ping
printf '#!/bin/sh\necho "hello from right, up 86400 s, remaphore 0.1.0"\n' > $DESK/right/etc/remaphore/hooks.d/ping/50-hello
chmod 755 $DESK/right/etc/remaphore/hooks.d/ping/50-hello
chmod o+r $DESK/left/etc/remaphore/node.key
sed -i 's/verbs = \["\*"\]$/verbs = ["ping"]/' $DESK/right/etc/remaphore/remaphore.toml
HOME=$DESK/right REMAPHORE_CONFIG=$DESK/right/etc/remaphore/remaphore.toml STATE_DIRECTORY=$DESK/right/state \
  systemctl start remaphore

# exit code 1: left$ remaphore check

# exit code 1: right$ remaphore explain --from com.example.left --verb deploy
