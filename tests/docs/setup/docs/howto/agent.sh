# before: web$ mkdir -p -m 755 /etc/remaphore/hooks.d/deploy
fleet ops=com.example.ops web=com.example.web &

# exit code 3: ops$ remaphore send --agent /run/remaphore/agent.sock --to com.example.web --verb reboot now
# exit code 3: ops$ remaphore send --agent /run/remaphore/agent.sock --to com.example.web --verb deploy 'v43; id'
# exit code 3: ops$ remaphore send --agent /run/remaphore/agent.sock --to 'com.example.**' --verb deploy v43

# not typed, it makes a user: cd /opt/remaphore/share/doc/remaphore/systemd
# not typed, it needs users: usermod --append --groups remaphore-users alice
# not typed, it needs a machine that systemd runs: systemctl reload remaphore-agent
