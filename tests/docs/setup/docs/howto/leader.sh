# before: east$ remaphore lock leader -- sh -c 'echo "ready: east leads"; exec sleep 600' &
fleet admin=com.example.admin east=com.example.db.east west=com.example.db.west &

# exit code 1: west$ remaphore lock leader --no-wait -- echo "west leads"
