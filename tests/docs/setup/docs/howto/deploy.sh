# before: web1$ mkdir -p -m 755 /etc/remaphore/hooks.d/deploy
fleet admin=com.example.admin web1=com.example.web.1 web2=com.example.web.2 web3=com.example.web.3 &

# before: web2$ remaphore run &
cp -rp ../web1/etc/remaphore/hooks.d ../web2/etc/remaphore/
cp -rp ../web1/etc/remaphore/hooks.d ../web3/etc/remaphore/
touch ../web2/etc/remaphore/full

# exit code 5: admin$ remaphore request --to 'com.example.web.*' --verb deploy --batch 1 --stop-on-failure 1 --timeout 2m --save v42.json v42
