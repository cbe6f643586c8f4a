# not typed, it makes this environment, and runs the tests: git clone REPOSITORY remaphore && cd remaphore
