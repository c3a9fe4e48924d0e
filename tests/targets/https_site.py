"""A folder over TLS, under a name, with certificates made for it by the third-party PyPI package trustme.

Whom to trust is written to `ca.pem` beside the folder, before the port answers.
"""
import argparse
import functools
import http.server
import pathlib
import ssl

import trustme


def main():
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    options = parser.parse_args()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(options.folder.parent / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(options.name).configure_cert(context)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=options.folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


main()
