"""The health check of the containers: exit 0 where this container answers a GET with a 2xx, else 1.

`healthcheck.py 8000 /health/live`. It runs every few seconds, so it imports next to nothing: an HTTP client
would cost five times the processor time. The image has no curl, and needs none.
"""

import socket
import sys

TIMEOUT_SECONDS = 8


def main(port: int, path: str) -> str | None:
    """Ask once; what is wrong, or None."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode(errors="replace")
    except OSError as error:
        return f"port {port}: {error}"
    status = answer.split(" ", 2)[1] if answer.startswith("HTTP/") else "no HTTP"
    body = answer.rpartition("\r\n")[2]
    return None if status.startswith("2") else f"{path}: {status} {body}"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
