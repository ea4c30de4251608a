"""Stands in for Python in the lines of a shell: has its arguments run by a fork of `tests/forks.py`."""

import json
import os
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
request = {"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}
text = json.dumps(request).encode()
socket.send_fds(connection, [len(text).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(text)
head = connection.recv(8)
sys.exit(json.loads(connection.recv(int.from_bytes(head, "big")))["code"] if head else 70)
