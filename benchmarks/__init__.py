"""Measurements of remaphore against a real nats-server on loopback: `python -m benchmarks`, or `make bench`.

`limits` measures what this machine allows at this moment, `report` sets each result in relation to it. One module for
each group of rows: `receive`, `requests`, `startup`, `handlers`, `memory`. They stand on `broker`, `site`, `daemon` and
`raw`. Commands of their own: `fleet`, `soak`, `profile`, `timeline`,
`compare`.
"""
