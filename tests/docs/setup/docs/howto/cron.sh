# before: report$ mkdir -p -m 755 /etc/remaphore/hooks.d/backed-up
fleet db=com.example.db report=com.example.report watch=com.example.watch &

# exit code 1: watch$ remaphore receive --verb backed-up --once --timeout 1s || (echo "no backup tonight" && exit 1)
