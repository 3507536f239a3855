"""Bodies in chunks, however they are cut."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from goqueue.api.server.chunked import ChunkedBody

_pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=12)
_extensions = st.sampled_from([b"", b";a", b" ; a=b", b';a="b"'])


@hypothesis.given(pieces=_pieces, extension=_extensions, trailers=st.booleans(), cuts=st.data())
def test_every_cut_of_a_body_is_the_same_body(
    pieces: list[bytes], extension: bytes, trailers: bool, cuts: st.DataObject
) -> None:
    """A body in chunks is decoded to what was put in, wherever it is cut; what follows it is left."""
    wire = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    wire += b"0\r\n" + (b"A: b\r\n" if trailers else b"") + b"\r\n"
    message = wire + b"GET /"
    places = sorted(cuts.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    body, received = ChunkedBody(), bytearray()
    ends: list[bool] = []
    for start, end in zip([0, *places], [*places, len(message)], strict=True):
        received += message[start:end]
        if not any(ends):
            ends.append(body.take(received))
    assert any(ends)
    assert bytes(body.decoded) == b"".join(pieces)
    assert bytes(received) == b"GET /"
