# before: left$ remaphore receive --id upload_done && aws s3 cp s3://bucket/bigfile .
fleet here uploader left=com.example.us.left right=com.example.us.right tokyo=com.example.jp.tokyo &
echo all of it > ../uploader/bigfile

# before: uploader$ remaphore request --to 'com.example.*.*' --verb status
printf '#!/bin/sh\necho disk 12%% used\n' > left.sh
printf '#!/bin/sh\nsleep 0.5; echo disk 41%% used\n' > right.sh
printf '#!/bin/sh\nsleep 1; echo no space left on device; exit 1\n' > tokyo.sh
printf '#!/bin/sh\n' > deploy.sh
chmod 755 left.sh right.sh tokyo.sh deploy.sh
remaphore receive -c $DESK/left/etc/remaphore/remaphore.toml --verb status ./left.sh &
remaphore receive -c $DESK/right/etc/remaphore/remaphore.toml --verb status ./right.sh &
remaphore receive -c $DESK/tokyo/etc/remaphore/remaphore.toml --verb status ./tokyo.sh &

# exit code 5: uploader$ remaphore request --to 'com.example.*.*' --verb status

# not typed, the tests are what types this; CI runs both: make demo
# not typed, it installs; CI does it, see .ci/run: pipx install '.[operator]'

# before: install -D -m 755 my-script /etc/remaphore/hooks.d/deploy/50-mine
printf '#!/bin/sh\n' > my-script
