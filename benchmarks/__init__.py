"""Measurements of remaphore against a real nats-server on loopback: `python -m benchmarks`, or `make bench`.

`limits` measures what this machine allows at this moment, `report` sets each result in relation to it. One module for
each group of rows: `receive` (with the plugin `acting`), `requests`, `startup` (with `agent`), `handlers`, `locks`,
`memory`. They use `broker`, `site`, `daemon` and `raw`. Commands of their own: `fleet` and `soak` (with `pictures`),
`profile`, `timeline`, `compare`.
"""
