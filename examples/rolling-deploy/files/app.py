"""The application: it answers with its release, and says whether it is healthy."""

import http.server
import os
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_broken = os.path.exists("/srv/app/broken") and read("/srv/app/release") != "1"
        status = 500 if self.path == "/health" and is_broken else 200
        body = (read("/srv/app/release") + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "none"


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
