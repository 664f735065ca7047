"""What is kept of a DICOM file, and what goes nowhere."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicoms import dicom, slide, volume
from histill.ml import decoder_wire, decoding
from histill.ml.decoder_tasks import Tasks
from histill.ml.dicom import decode, header
from histill.ml.dicom_tags import READ, REPEATED
from traces import found_in

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SECRET = "Zebediah Quartz"
STACK = np.random.default_rng(0).integers(0, 4096, (3, 20, 30), dtype=np.uint16)
FLAT = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
# What names people, places and devices, and is not for us to read.
TEXTS = (
    "AdditionalPatientHistory", "DerivationDescription", "DeviceSerialNumber", "EthnicGroup",
    "ImageComments", "InstitutionAddress", "InstitutionName", "MedicalAlerts", "MilitaryRank",
    "Occupation", "OperatorsName", "OtherPatientIDs", "PatientAddress", "PatientBirthName",
    "PatientComments", "PatientMotherBirthName", "PatientTelephoneNumbers",
    "PerformingPhysicianName", "ProtocolName", "RequestedProcedureDescription",
    "SeriesDescription", "StationName", "StudyComments", "StudyDescription",
)  # fmt: skip


def _with_secrets(data: bytes) -> bytes:
    """A file with a secret in every text that is not ours to read, also deep within it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for name in TEXTS:
        setattr(dataset, name, SECRET[:16])
    block = dataset.private_block(0x0041, SECRET, create=True)
    block.add_new(1, "LO", SECRET)
    block.add_new(2, "SQ", Sequence([_item()]))
    for group in (0x6000, 0x6002):
        dataset.add_new((group, 0x0022), "LO", SECRET)
        dataset.add_new((group, 0x3000), "OW", SECRET.encode() + b"\0")
    dataset.ReferencedStudySequence = [_item()]
    dataset.RequestAttributesSequence = [_item()]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(name) or []:
            group.FrameAnatomySequence = [_item()]
            own = group.private_block(0x0043, "OURS", create=True)
            own.add_new(1, "LO", SECRET)
            group.PatientComments = SECRET
    for specimen in dataset.get("SpecimenDescriptionSequence") or []:
        specimen.SpecimenDetailedDescription = SECRET
        specimen.SpecimenPreparationSequence = [_item()]
    dataset.file_meta.SourceApplicationEntityTitle = SECRET[:16]
    dataset.preamble = SECRET.encode().ljust(128, b"\0")
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _item() -> Dataset:
    item = Dataset()
    item.PatientComments = item.ImageComments = SECRET
    return item


FILES = {
    "frame": _with_secrets(dicom(FLAT)),
    "film": _with_secrets(dicom(STACK)),
    "volume": _with_secrets(volume(STACK)),
    "volume by frame": _with_secrets(volume(STACK, shared=False)),
    "slide": _with_secrets(slide(np.full((300, 300, 3), 200, np.uint8))),
}
NEEDLES = (SECRET, "Quartz", SECRET[:16])


def _text(dataset: Dataset) -> bytes:
    """All of a data set, its file's own part too."""
    meta = getattr(dataset, "file_meta", Dataset())
    told = f"{dataset}\n{meta}\n{getattr(dataset, 'preamble', b'')!r}".encode()
    return told + dataset.to_json(suppress_invalid_tags=True).encode()


def _keywords(dataset: Dataset) -> Iterator[str]:
    yield from (element.keyword for element in dataset.iterall())


@pytest.mark.parametrize("kind", FILES)
def test_what_is_not_listed_is_dropped_right_after_parsing(kind: str) -> None:
    """At any depth; neither header nor whole data set keeps private groups, overlays or texts."""
    data = FILES[kind]
    assert found_in([("file", data)], NEEDLES) != []
    kept = [header(io.BytesIO(data))]
    if kind != "slide":
        whole = decode(io.BytesIO(data)).dicom
        assert whole is not None
        kept.append(whole)
    for dataset in kept:
        assert found_in([("kept", _text(dataset))], NEEDLES) == []
        assert set(_keywords(dataset)) <= READ
        assert dataset.Rows


@pytest.mark.parametrize("kind", FILES)
def test_a_decoder_tells_sizes_and_pixels_only(kind: str) -> None:
    """Its messages hold nothing of a header but numbers; a SEG holds what it must repeat."""
    tasks, file = Tasks(), decoder_wire.in_memory(FILES[kind])
    opening = {"do": "open", "frame": 0, "level": 0, "max_pixels": 1 << 24}
    told: list[Any] = [tasks.answer(opening | {"max_slide_pixels": 1 << 24}, [file])[0]]
    answer, pixels = tasks.answer({"do": "decode"}, [])
    told.append(answer)
    assert pixels is not None
    os.close(pixels)
    said = json.dumps(told).encode()
    assert found_in([("messages", said)], (*NEEDLES, "Secret^Person", "Secret")) == []
    side = 300 if kind == "slide" else 20
    shape = [side, 300 if kind == "slide" else 30]
    shape = [answer["frames"], *shape] if answer["frames"] > 1 else shape
    mask = np.ones(shape, np.uint8)
    message = {"do": "seg", "shape": shape, "classes": ["background", "nuclei"], "model": "m@1"}
    sent = decoder_wire.array_in_memory(mask)
    length, seg = tasks.answer(message | {"empty_frames": False}, [sent])
    os.close(sent)
    os.close(file)
    assert seg is not None
    written = decoder_wire.mapped(seg, (1, 1, length["channels"])).tobytes()
    assert found_in([("seg", written)], NEEDLES) == []
    assert pydicom.dcmread(io.BytesIO(written)).PatientName == "Secret^Person"
    tasks.close()


def test_what_names_the_patient_is_read_for_segmentations_only() -> None:
    """The list of what may be read says so, and is what the rest of it is not."""
    names = {name for name in READ if "Patient" in name or "Physician" in name}
    positions = {"ImageOrientationPatient", "ImagePositionPatient", "PatientOrientation"}
    assert names - positions <= set(REPEATED)


def test_pixels_do_not_depend_on_what_is_dropped() -> None:
    """A file with every secret shows what it shows without them."""
    for plain, kind in ((dicom(FLAT), "frame"), (dicom(STACK), "film"), (volume(STACK), "volume")):
        bare = decoding.decode(io.BytesIO(plain))
        full = decoding.decode(io.BytesIO(FILES[kind]))
        np.testing.assert_array_equal(bare.pixels, full.pixels)
        assert bare.spacing == full.spacing
