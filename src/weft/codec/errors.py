"""What a peer can do wrong."""


class PeerError(Exception):
    """The peer broke the protocol: it costs the peer its connection.

    ``kind`` is Envoy's response code detail (``http1.codec_error``), ``status`` what a client is
    answered with.
    """

    def __init__(self, kind: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.status: int = status
