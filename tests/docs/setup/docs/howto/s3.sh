# before: web1$ remaphore receive --id upload_done && aws s3 cp s3://bucket/bigfile .
fleet uploader=com.example.uploader web1=com.example.web.one web2=com.example.web.two &
echo 'a large file' > ../uploader/bigfile

# not typed, it makes a user: useradd --system --create-home fetch                  # its home has the credentials for S3, if any

# exit code 5: web1$ remaphore run &
