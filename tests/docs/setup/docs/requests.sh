# before: db1$ remaphore run &
fleet admin=com.example.admin db1=com.example.db.1 db2=com.example.db.2 db3=com.example.db.3 db4=com.example.db.4 &
mkdir -p ../db1/etc/remaphore/hooks.d/status ../db3/etc/remaphore/hooks.d/status
printf '#!/bin/sh\necho all is well\n' > ../db1/etc/remaphore/hooks.d/status/10-say
printf '#!/bin/sh\necho disk is full; exit 1\n' > ../db3/etc/remaphore/hooks.d/status/10-say
chmod 755 ../db1/etc/remaphore/hooks.d/status/10-say ../db3/etc/remaphore/hooks.d/status/10-say
cp -rp ../db1/etc/remaphore/hooks.d ../db2/etc/remaphore/
mkdir ../db1/etc/remaphore/hooks.d/backup ../db2/etc/remaphore/hooks.d/backup
printf '#!/bin/sh\necho saved\n' > ../db1/etc/remaphore/hooks.d/backup/10-save
printf '#!/bin/sh\nsleep 6\n' > ../db2/etc/remaphore/hooks.d/backup/10-save
chmod 755 ../db1/etc/remaphore/hooks.d/backup/10-save ../db2/etc/remaphore/hooks.d/backup/10-save

# exit code 3: admin$ remaphore request --to com.example.db.1 --to com.example.bd.2 --verb status

# exit code 4: admin$ remaphore request --to 'com.example.db.[1-2,4]' --verb backup --timeout 3s

# exit code 4: admin$ remaphore request --to 'com.example.db.*' --verb status --fold --timeout 5s

# exit code 5: admin$ remaphore request --to com.example.db.3 --verb status --jsonl

# exit code 5: admin$ remaphore request --to 'com.example.db.[1-3]' --verb status --save result.json --failed

# exit code 5: admin$ remaphore request --retry result.json --save result.json --verb status --timeout 5s

# exit code 5: admin$ remaphore request --to 'com.example.db.*' --verb status --batch 1 --stop-on-failure 1

# exit code 5: admin$ remaphore request --to 'com.example.db.*' --verb status --require all --fail-fast --batch 1
