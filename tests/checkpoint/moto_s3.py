"""moto's S3, with a lock around its puts: it checks `If-None-Match` and stores in two steps, so two creates can win.

Google's XML API, which obstore speaks to gs://, has the same requests and answers but for the header that makes a put
conditional. That one is understood here too, for want of a server of Google's kind that understands it.

Run as a process of its own: `python -m tests.checkpoint.moto_s3 PORT`.
"""

from __future__ import annotations

import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


class OnePutAtATime:
    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] != "PUT":
            return self.app(environ, start_response)
        if environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        with self.lock:
            return list(self.app(environ, start_response))


if __name__ == "__main__":
    app = OnePutAtATime(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True, request_handler=Quiet)
