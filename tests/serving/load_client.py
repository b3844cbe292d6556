"""Asks a server from a process of its own, and counts what comes back.

    python load_client.py PORT CONNECTIONS SECONDS [SEED]

Given a seed, it goes on (for a minute at most) until that seed's candidates have
answered often: a busy machine may take longer to bring them. Prints JSON: the number of
answers by HTTP status and by the seed of the candidates in them, failures, and
milliseconds at the 50th and 99th percentile.
"""

import collections
import http.client
import json
import sys
import threading
import time

BODY = json.dumps({"inputs": {"user": ["u3"], "shift": [[0.0]], "k": 5}})


# Answers of a seed that are often.
OFTEN = 20


def ask(port, goes_on, counts, lock, times):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while goes_on():
        start = time.perf_counter()
        try:
            connection.request("POST", "/v1/models/retrieval:predict", BODY)
            response = connection.getresponse()
            answer = json.loads(response.read())
            seed = answer["outputs"]["ids"][0][0].split("-")[0]
            keys = [f"status {response.status}", f"seed {seed}"]
        except Exception as error:
            keys = [f"failed: {type(error).__name__}"]
            connection.close()
        with lock:
            counts.update(keys)
            times.append(time.perf_counter() - start)


def main(port, connections, seconds, seed=None):
    counts, times = collections.Counter(), []
    until, lock = time.monotonic() + seconds, threading.Lock()

    def goes_on():
        over = time.monotonic() - until
        return over < 0 or seed and counts[f"seed {seed}"] < OFTEN and over < 60

    threads = [
        threading.Thread(target=ask, args=(port, goes_on, counts, lock, times))
        for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    for share in (50, 99):
        counts[f"p{share}"] = 1000 * times[len(times) * share // 100]
    print(json.dumps(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
