"""Named texts inside a .tflite: entries of its metadata, which a runtime that does not know them passes over."""

from __future__ import annotations

import numpy as np

from . import _flatbuffer


def text_in(name: str, content: bytes, key: str) -> str | None:
    """The text that a file holds under a key; None where there is none. `name` is what messages call the file.

    Raises:
      ArtifactError: the file is damaged.
    """
    with _flatbuffer.damage_named(name):
        model = _flatbuffer.schema().Model.GetRootAs(content, 0)
        entries = [model.Metadata(index) for index in range(model.MetadataLength())]
        buffers = [entry.Buffer() for entry in entries if entry.Name() == key.encode()]
        return model.Buffers(buffers[0]).DataAsNumpy().tobytes().decode() if buffers else None


def with_text(content: bytes, key: str, text: str) -> bytes:
    """The file with a text under a key that it does not have yet."""
    schema = _flatbuffer.schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.metadata = [*(model.metadata or ()), schema.MetadataT(key, len(model.buffers))]
    model.buffers.append(schema.BufferT(np.frombuffer(text.encode(), np.uint8)))
    return packed(model)


def packed(model: object) -> bytes:
    """The bytes of a file whose tables were changed."""
    builder = _flatbuffer.schema().flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), _flatbuffer.MARK)
    return bytes(builder.Output())
