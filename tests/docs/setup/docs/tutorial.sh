# not typed, it installs; .ci/run types this page from the wheel, with this block: left$ python3 -m venv remaphore

# not typed, both machines are one here, and have one loopback: right$ ssh -f -N -L 4222:127.0.0.1:4222 left

# exit code 6: left$ remaphore request --to com.example.right --verb reboot
