"""The load balancer: each file in /etc/balancer is a server, with its address in it, or "drain"."""

import http.server
import itertools
import os
import sys
import urllib.request

TURN = itertools.count()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        servers = [read(name) for name in sorted(os.listdir("/etc/balancer"))]
        servers = [server for server in servers if ":" in server]
        if not servers:
            self.send_error(503)
            return
        server = servers[next(TURN) % len(servers)]
        with urllib.request.urlopen(f"http://{server}{self.path}", timeout=5) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def read(name):
    with open(os.path.join("/etc/balancer", name)) as file:
        return file.read().strip()


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
