# before: east$ mkdir -p -m 755 /etc/remaphore/hooks.d/step-down /etc/remaphore/hooks.d/take-over
fleet admin=com.example.admin east=com.example.db.east west=com.example.db.west &

# before: west$ remaphore run &
cp -rp ../east/etc/remaphore/hooks.d ../west/etc/remaphore/
touch ../east/etc/remaphore/leading

