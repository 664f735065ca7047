"""Which compressions of DICOM pixels are read, and by what."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

from histill.core.errors import InvalidArgumentError
from histill.ml.images import FIELD

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner
    from pydicom.uid import UID

# The first that is installed, and no other, so that what else is there does not change
# pixels: pydicom would prefer GDCM, which damaged files crash, and the process with it.
_PLUGINS: dict[UID, tuple[str, tuple[str, ...]]] = {
    uid.JPEGBaseline8Bit: ("JPEG", ("pillow",)),
    uid.JPEGExtended12Bit: ("JPEG of 12 bit", ("imagecodecs",)),
    uid.JPEGLossless: ("lossless JPEG", ("imagecodecs",)),
    uid.JPEGLosslessSV1: ("lossless JPEG", ("imagecodecs",)),
    uid.JPEGLSLossless: ("JPEG-LS", ("pyjpegls",)),
    uid.JPEGLSNearLossless: ("JPEG-LS", ("pyjpegls",)),
    uid.JPEG2000Lossless: ("JPEG 2000", ("imagecodecs", "pillow")),
    uid.JPEG2000: ("JPEG 2000", ("imagecodecs", "pillow")),
    uid.HTJ2KLossless: ("HTJ2K", ("imagecodecs",)),
    uid.HTJ2KLosslessRPCL: ("HTJ2K", ("imagecodecs",)),
    uid.HTJ2K: ("HTJ2K", ("imagecodecs",)),
    uid.RLELossless: ("RLE", ("pydicom",)),
}
_JPEG2000 = {each for each, (word, _) in _PLUGINS.items() if word in {"JPEG 2000", "HTJ2K"}}
DECODER_DEPENDENCIES = {
    each: ("imagecodecs",) for each, (_, plugins) in _PLUGINS.items() if "imagecodecs" in plugins
}


def plugin_for(syntax: UID) -> str:
    """The pydicom plugin that decodes a transfer syntax; empty for uncompressed pixels.

    Raises:
        InvalidArgumentError: None does; names ``image`` and what is read.
    """
    if syntax not in uid.AllTransferSyntaxes:
        # Not by its number: that is whatever the file says.
        raise _unsupported("an unknown transfer syntax")
    if not syntax.is_encapsulated:
        return ""
    plugin = _plugin(syntax)
    if plugin is None:
        raise _unsupported(syntax.name)
    return plugin


def is_available(syntax: str) -> bool:
    """Whether this module, as a plugin of pydicom, decodes a transfer syntax."""
    return syntax in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Decodes for pydicom, and tells it how the pixels lie.

    Args:
        source: The code stream of one frame.
        runner: What the header says; pydicom asks it afterwards.
    """
    import imagecodecs

    if runner.transfer_syntax in _JPEG2000:
        pixels = imagecodecs.jpeg2k_decode(source)
        if runner.photometric_interpretation in {"YBR_ICT", "YBR_RCT"}:
            runner.set_option("photometric_interpretation", "RGB")
    else:
        pixels = imagecodecs.jpeg8_decode(source)
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    data: bytes = pixels.tobytes()
    return data


def _plugin(syntax: UID) -> str | None:
    for plugin in _PLUGINS.get(syntax, ("", ()))[1]:
        if plugin in get_decoder(syntax).available_plugins:
            return plugin
    return None


def _unsupported(what: str) -> InvalidArgumentError:
    read = dict.fromkeys(word for each, (word, _) in _PLUGINS.items() if _plugin(each))
    return InvalidArgumentError.of(
        FIELD,
        f"DICOM pixels in {what} are not read; send them uncompressed, deflated or as "
        + ", ".join(read),
    )


for _syntax in DECODER_DEPENDENCIES:
    # On import, since pydicom's registry is not made for several threads.
    get_decoder(_syntax).add_plugin("imagecodecs", (__name__, "decode_frame"))
