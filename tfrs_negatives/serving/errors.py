"""Why a request gets no answer, in the terms of both protocols."""

# Names of gRPC status codes, and the HTTP status of each.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 413,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}


class RequestError(Exception):
    """A request that is refused or failed.

    Args:
      message: What was expected, what came, how to fix it.
      code: One of `HTTP_STATUS`.
    """

    def __init__(self, message, code="INVALID_ARGUMENT"):
        super().__init__(message)
        self.code = code
        self.http_status = HTTP_STATUS[code]
