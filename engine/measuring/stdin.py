"""Stdin: the request of a program that started this one, and its sign of life."""

from __future__ import annotations

import sys

from engine.measuring.request import Request
from templates.child import end_with_parent


def request_on_stdin() -> Request:
    """Reads the first line; from then on the process ends as soon as the other end is closed.

    So a search that is killed leaves nobody behind on its GPU. Raises UserError for a line that
    is no request.
    """
    request = Request.from_json(sys.stdin.readline())
    end_with_parent(sys.stdin.fileno())
    return request
