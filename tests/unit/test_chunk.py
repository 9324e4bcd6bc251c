from streamdetect.kernels.chunk import chunk_of


def test_a_chunk_gives_back_values_and_keys():
    chunk = chunk_of("t", 1, [b"one", None, b""], keys=[None, b"k", b""])
    assert [chunk.value(i) for i in range(3)] == [b"one", None, b""]
    assert [chunk.key(i) for i in range(3)] == [None, b"k", b""]
