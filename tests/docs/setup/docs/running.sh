# not typed, it needs a machine that systemd runs: systemctl daemon-reload

# not typed, it makes a user: install -m 644 remaphore.sysusers.conf /etc/sysusers.d/remaphore.conf && systemd-sysusers

# not typed, it installs: pip install 'remaphore[metrics]'

# before: curl http://127.0.0.1:9617/metrics
fleet here &
printf '[plugins]\nenable = ["metrics"]\n[plugins.metrics]\nlisten = "127.0.0.1:9617"\n' >> /etc/remaphore/remaphore.toml
remaphore run &
