"""What can go wrong between client and server."""


class ServerError(ConnectionError):
    """The server cannot be reached, or does not answer with masks."""


class UnavailableError(ServerError):
    """The server is down, starting or has too much to do: the same request may succeed later."""


class RefusedError(ServerError):
    """The server has read the request and finds fault with an image in it."""
