"""A process for the supervisor to hold: an HTTP server that says what it is, with named behaviours on the command line.

standin.py PORT [behaviour ...]
dump=FILE     writes its environment there as JSON
child         starts a child of its own in the same process group that ignores SIGTERM
twice         drains for ever after the first SIGTERM, ends at the second
stubborn      ignores SIGTERM
crash         exits at once with status 7
crash-later   exits with status 7 after it has run for 1.3 s
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

port, behaviours = int(sys.argv[1]), sys.argv[2:]
signals = 0


def on_term(*_):
    global signals
    signals += 1
    print(f"SIGTERM {signals}", flush=True)
    if "stubborn" not in behaviours and (signals > 1 or "twice" not in behaviours):
        os._exit(0)


signal.signal(signal.SIGTERM, on_term)
print("standin speaks:", " ".join(sys.argv[1:]), flush=True)
if "crash" in behaviours:
    sys.exit(7)
for behaviour in behaviours:
    if behaviour.startswith("dump="):
        Path(behaviour[5:]).write_text(json.dumps(dict(os.environ)))
if "child" in behaviours:
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code])
if "crash-later" in behaviours:
    threading.Timer(1.3, lambda: os._exit(7)).start()
    while True:
        time.sleep(60)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_):
        pass


http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
