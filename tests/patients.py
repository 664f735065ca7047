"""Files of a patient who does not exist, with her secrets wherever a file can hold words."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicoms import dicom, slide, volume
from pictures import blobs
from slide_files import pyramid

if TYPE_CHECKING:
    from pathlib import Path

NAME, DICOM_NAME = "Zebediah Quartz", "Quartz^Zebediah"
BORN, MRN, ACCESSION = "18881203", "MRN-7731-QX", "ACC99QX17"
UID = "1.2.826.0.1.3680043.2.1125.7712399"
# One a place, so that what leaks tells from where.
DICOM = {
    "private": "PRIVQX-8801", "overlay": "OVLYQX-8802", "comments": "PCOMQX-8803",
    "nested": "NESTQX-8804", "institution": "INSTQX-8805", "preamble": "PREAQX-8806",
}  # fmt: skip
TEXTS = {
    "exif": "EXIFQX-8811", "text": "PTXTQX-8812", "xmp": "XMPPQX-8813", "gps": "GPSAQX-8814",
    "comment": "JCOMQX-8815", "description": "TIFDQX-8816", "artist": "ARTIQX-8817",
    "icc": "ICCPQX-8818", "scanner": "SCANQX-8819",
}  # fmt: skip
CALL = {"file": "quartz-8821-zebediah", "id": "OIPIQX-8822", "parameter": "PARMQX-8823",
        "after": "TAILQX-8824", "form": "FORMQX-8825"}  # fmt: skip
SECRETS = (
    NAME, "Quartz^Zeb", BORN, MRN, ACCESSION, UID, *DICOM.values(), *TEXTS.values(), *CALL.values(),
)  # fmt: skip
_SIDE = 96


def _dicom_of(data: bytes) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PatientName, dataset.PatientBirthDate = DICOM_NAME, BORN
    dataset.PatientID, dataset.AccessionNumber = MRN, ACCESSION
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = UID
    dataset.PatientComments = dataset.ImageComments = DICOM["comments"]
    dataset.InstitutionName = dataset.StationName = DICOM["institution"]
    dataset.private_block(0x0041, "OURS", create=True).add_new(1, "LO", DICOM["private"])
    dataset.add_new((0x6000, 0x0022), "LO", DICOM["overlay"])
    dataset.add_new((0x6000, 0x3000), "OW", DICOM["overlay"].encode() + b"\0")
    item = Dataset()
    item.PatientComments = DICOM["nested"]
    dataset.RequestAttributesSequence = Sequence([item])
    for group in dataset.get("SharedFunctionalGroupsSequence") or []:
        group.FrameAnatomySequence = Sequence([item])
    dataset.preamble = DICOM["preamble"].encode().ljust(128, b"\0")
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = f"{NAME} {TEXTS['exif']}"
    exif[0x9C9B] = TEXTS["exif"].encode("utf-16-le")
    gps = exif.get_ifd(0x8825)
    gps[0x001B] = b"ASCII\0\0\0" + TEXTS["gps"].encode()
    gps[0x001C] = TEXTS["gps"].encode()
    return exif


def _saved(kind: str, **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(blobs(5, side=_SIDE)[0]).save(out, kind, **how)
    return out.getvalue()


def _png() -> bytes:
    noted = PngInfo()
    noted.add_text(f"Patient {TEXTS['text']}", f"{NAME} {BORN}")
    noted.add_text("Comment", TEXTS["text"], zip=True)
    noted.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{TEXTS['xmp']}</x:xmpmeta>")
    icc = TEXTS["icc"].encode() * 20
    return _saved("PNG", pnginfo=noted, exif=_exif(), icc_profile=icc) + CALL["after"].encode()


def _tiff() -> bytes:
    out = io.BytesIO()
    tags = [(700, 1, len(TEXTS["xmp"]), TEXTS["xmp"].encode(), True),
            (65000, 2, 0, TEXTS["comment"], True)]  # fmt: skip
    with tifffile.TiffWriter(out) as tiff:
        tiff.write(
            blobs(5, side=_SIDE)[0],
            photometric="rgb",
            description=f"{NAME} {TEXTS['description']}",
            software=TEXTS["artist"],
            metadata=None,
            extratags=tags,
        )
    return out.getvalue()


def files() -> dict[str, bytes]:
    """A file of each kind that is read."""
    picture = blobs(5, side=_SIDE)[0]
    grey = picture[..., 0]
    scanner = f"Aperio Image Library |Filename = {NAME}|User = {TEXTS['scanner']}|MPP = 0.5"
    jpeg = _saved(
        "JPEG", exif=_exif(), comment=TEXTS["comment"].encode(), quality=95,
        icc_profile=TEXTS["icc"].encode() * 20, xmp=TEXTS["xmp"].encode(),
    )  # fmt: skip
    large = blobs(6, side=600)[0]
    return {
        "dicom.dcm": _dicom_of(dicom(grey)),
        "film.dcm": _dicom_of(dicom(np.stack([grey] * 3))),
        "volume.dcm": _dicom_of(volume(np.stack([grey] * 3).astype(np.uint16))),
        "slide.dcm": _dicom_of(slide(large)),
        "png.png": _png(),
        "jpeg.jpg": jpeg,
        "tiff.tif": _tiff(),
        "slide.svs": pyramid([large, np.ascontiguousarray(large[::2, ::2])], description=scanner),
    }


def damaged(data: bytes) -> list[bytes]:
    """A file cut short at several places, and with bytes turned over."""
    cuts = [data[: len(data) * share // 10] for share in (1, 3, 6, 9)]
    random = np.random.default_rng(0)
    for _ in range(3):
        changed = bytearray(data)
        for place in random.integers(8, min(len(data), 3000), 40):
            changed[place] ^= 0xFF
        cuts.append(bytes(changed))
    return cuts


def write_folder(folder: Path) -> Path:
    """A dataset's folder, of which the names of files, too, are the patient's."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    made = files()
    for index, name in enumerate(("png.png", "jpeg.jpg", "tiff.tif", "dicom.dcm", "png.png")):
        stem, suffix = f"{CALL['file']}-{index}", name.partition(".")[2]
        (folder / "images" / f"{stem}.{suffix}").write_bytes(made[name])
        noted = PngInfo()
        noted.add_text("Patient", f"{NAME} {TEXTS['text']}")
        label = Image.fromarray(blobs(5, side=_SIDE)[1])
        label.save(folder / "labels" / f"{stem}.png", pnginfo=noted)
    return folder
