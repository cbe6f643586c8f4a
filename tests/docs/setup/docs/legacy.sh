# before: left$ remaphore -u upload_done && aws s3 cp s3://bucket/bigfile .
fleet here uploader left=com.example.us.left right=com.example.us.right tokyo=com.example.jp.tokyo &
echo all of it > ../uploader/bigfile

# before: uploader$ remaphore -r -D 'com.example.*.*' -v status -t 20s
printf '#!/bin/sh\necho disk 12%% used\n' > left.sh
printf '#!/bin/sh\nsleep 0.5; echo disk 41%% used\n' > right.sh
printf '#!/bin/sh\nsleep 1; echo no space left on device; exit 1\n' > tokyo.sh
printf '#!/bin/sh\n' > deploy.sh
chmod 755 left.sh right.sh tokyo.sh deploy.sh
remaphore -c $DESK/left/etc/remaphore/remaphore.toml -v status ./left.sh &
remaphore -c $DESK/right/etc/remaphore/remaphore.toml -v status ./right.sh &
remaphore -c $DESK/tokyo/etc/remaphore/remaphore.toml -v status ./tokyo.sh &


