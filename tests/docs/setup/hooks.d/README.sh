# not typed, a handler, and no command: #!/bin/sh
