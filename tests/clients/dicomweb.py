"""An archive asked over DICOMweb: ``dicomweb.py URL IMAGE SEG OUT``, JSON out.

Stores both files (STOW), looks the segmentation up (QIDO), and writes what comes back
(WADO) to OUT.
"""

import json
import sys

from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread


def main() -> None:
    """Asks, and prints what came."""
    url, image, seg, out = sys.argv[1:]
    client = DICOMwebClient(url)
    files = [dcmread(image), dcmread(seg)]
    stored = client.store_instances(files)
    made = files[1]
    found = client.search_for_instances(
        study_instance_uid=made.StudyInstanceUID, search_filters={"Modality": "SEG"}
    )
    back = client.retrieve_instance(
        made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID
    )
    back.save_as(out, enforce_file_format=True)
    series = client.search_for_series(study_instance_uid=made.StudyInstanceUID)
    sys.stdout.write(
        json.dumps(
            {
                "stored": len(stored.ReferencedSOPSequence),
                "found": [each["00080018"]["Value"][0] for each in found],
                "modalities": sorted(each["00080060"]["Value"][0] for each in series),
            }
        )
    )


if __name__ == "__main__":
    main()
