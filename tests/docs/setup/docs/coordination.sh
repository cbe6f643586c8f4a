# before: left$ remaphore lock nightly -- echo "only one of us runs this now"
fleet left right &

# not typed, it needs jq: remaphore lock list --json > locks.json

# not typed, the tests of the command type it on a broker of a site: nats1$ remaphore coordination init --credentials /var/lib/remaphore-broker/admin.creds

# not typed, the tests of the command type it on a broker of a site: remaphore coordination init --credentials admin.creds --recreate
