# before: east$ remaphore peer permit com.example.db.west --allow lock:leader
fleet admin=com.example.admin east=com.example.db.east west=com.example.db.west &

# exit code 1: west$ remaphore lock leader --no-wait -- echo "west leads"
