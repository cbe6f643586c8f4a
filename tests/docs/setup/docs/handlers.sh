# before: $ ln -s /dev/null /etc/remaphore/hooks.d/ping/50-hello
mkdir -p /etc/remaphore/hooks.d/ping /etc/remaphore/hooks.d/deploy
cd /etc/remaphore/hooks.d/deploy
for name in 10-fetch 20-activate.sh; do printf '#!/bin/sh\n' > $name; chmod 755 $name; done
fleet here &
