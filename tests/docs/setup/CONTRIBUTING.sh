# not typed, it makes this environment, and runs the tests: git clone <this repository> && cd remaphore
