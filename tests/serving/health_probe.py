"""Asks for a server's health, on connections of its own, until its input ends.

    python health_probe.py PORT

Prints JSON: how many times, and the milliseconds of the slowest, sorted. Answers of
an idle server, in this process, tell how much of it is the machine.
"""

import http.client
import http.server
import json
import sys
import threading
import time


class Idle(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def ask(port):
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz/ready")
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 200
    return 1000 * (time.perf_counter() - start)


def main(port):
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
    idle = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Idle)
    threading.Thread(target=idle.serve_forever, daemon=True).start()
    times, others = [], []
    print("probing", flush=True)
    while not ended.wait(0.01):
        times.append(ask(port))
        others.append(ask(idle.server_address[1]))
    found = {
        "probes": len(times),
        "slowest_ms": sorted(times)[-20:],
        "idle_slowest_ms": sorted(others)[-20:],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
