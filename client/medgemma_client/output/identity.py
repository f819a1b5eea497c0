"""Whose image it is: what an object takes over from the header of its source, and nothing else."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

IDENTITY = (
    "SpecificCharacterSet",
    # Patient (PS3.3 C.7.1.1)
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientNames",
    "PatientSpeciesDescription",
    "PatientBreedDescription",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # Clinical trial (C.7.1.3, C.7.2.3)
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    # Study (C.7.2.1)
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "StudyDescription",
    # Patient at the time of the study (C.7.2.2)
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
)
_ALWAYS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Those of type 2: empty where they are unknown, and never left out."""


def take_over(source: Any, target: Any) -> None:
    """Copy patient and study of a header (None: of nobody) to a data set, as they stand: values
    that the standard forbids are the source's own, and stay."""
    for keyword in IDENTITY:
        if source is not None and keyword in source:
            target[keyword] = deepcopy(source[keyword])
        elif keyword in _ALWAYS:
            setattr(target, keyword, None)
        elif keyword in target and keyword != "StudyInstanceUID":
            del target[keyword]
