# not typed, it needs a machine that systemd runs: systemctl daemon-reload

# not typed, it makes a user: install -D -m 644 remaphore.sysusers.conf /etc/sysusers.d/remaphore.conf && systemd-sysusers

# before: two$ remaphore run --verbose 2>&1 | tee log.txt &
fleet here one two &
mkdir -p ../two/etc/remaphore/hooks.d/deploy
printf '#!/bin/sh\necho deployed $2\n' > ../two/etc/remaphore/hooks.d/deploy/50-app
chmod 755 ../two/etc/remaphore/hooks.d/deploy/50-app

# not typed, it installs: pip install 'remaphore[metrics]'

# before: curl http://127.0.0.1:9617/metrics
printf '[plugins]\nenable = ["metrics"]\n[plugins.metrics]\nlisten = "127.0.0.1:9617"\n' >> /etc/remaphore/remaphore.toml
remaphore run &
