# before: $ remaphore explain -c /etc/remaphore/remaphore.toml --from com.example.one --verb reboot
fleet here one &
sed -i '/\[\[peers/,$ s/verbs = .*/verbs = ["ping"]/' /etc/remaphore/remaphore.toml

# exit code 1: $ remaphore explain -c /etc/remaphore/remaphore.toml --from com.example.one --verb reboot

# not typed, it needs the command `nats`: nats sub --raw --count 1 remaphore.all | head -c -1 > message       # nats appends a newline
