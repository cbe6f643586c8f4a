# before: admin$ remaphore wait --count all --from 'com.example.db.*' --id dumped --timeout 2h && echo "start the migration"
fleet admin=com.example.admin db1=com.example.db.1 db2=com.example.db.2 db3=com.example.db.3 &

# exit code 2: admin$ remaphore wait --count 5 --from 'com.example.db.*' --id dumped

# exit code 1: admin$ remaphore wait --count 2 --from 'com.example.db.*' --id dumped --timeout 1s
