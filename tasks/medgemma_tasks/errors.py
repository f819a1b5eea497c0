"""One tree of errors, shared by both sides of the queue.

Every error carries a stable ``code`` (part of the contract: never rename one), a sentence that
says what was wrong, with what, and what to do, and ``details`` of plain JSON values. A message may
quote an answer, which is patient data: logs carry the code alone, never the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class MedGemmaError(Exception):
    """Base of every error this project raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword details do not survive the default pickling of exceptions.
        return (_rebuild, (type(self), self.message, self.details))


def _rebuild(kind: type[MedGemmaError], message: str, details: dict[str, Any]) -> MedGemmaError:
    return kind(message, **details)


# --- what a caller handed us -------------------------------------------------------------------


class InputError(MedGemmaError):
    """An image or file cannot be used."""

    code = "input_error"


class FileUnreadable(InputError):
    code = "file_unreadable"


class FileUnwritable(InputError):
    """The folder or file for a result cannot be written."""

    code = "file_unwritable"


class NotAnImage(InputError):
    code = "not_an_image"


class TruncatedImage(InputError):
    code = "truncated_image"


class EmptyImage(InputError):
    """An image with no pixels: zero rows or columns."""

    code = "empty_image"


class ImageTooLarge(InputError):
    """Over the pixel or byte limit; found before anything was decoded."""

    code = "image_too_large"


class DicomError(InputError):
    code = "dicom_error"


class DicomWithoutPixels(DicomError):
    code = "dicom_without_pixels"


class DicomNotAnImage(DicomError):
    """SEG, RTDOSE, SR and their kin: they describe other images and are no input themselves."""

    code = "dicom_not_an_image"


class DicomEncrypted(DicomError):
    code = "dicom_encrypted"


class DicomUndecodable(DicomError):
    """A transfer syntax for which no decoder is installed, or pixel data it cannot decode."""

    code = "dicom_undecodable"


class DicomSupportMissing(DicomError):
    """The file is DICOM and the ``[dicom]`` extra is not installed."""

    code = "dicom_support_missing"


class PathOutside(InputError):
    """What a folder or pattern named leads out of that folder, as a symbolic link can."""

    code = "path_outside"


class BucketNotAllowed(InputError):
    code = "bucket_not_allowed"


class HostNotAllowed(InputError):
    """A DICOMweb server that MEDGEMMA_DICOMWEB_HOSTS does not name, or where one leads to."""

    code = "host_not_allowed"


class DecoderDied(InputError):
    """The process that read the image died over it."""

    code = "decoder_died"


class ReadingTimeLimit(InputError):
    """Reading a row's images took longer than its limit."""

    code = "reading_time_limit"


class StudyError(InputError):
    """Many images that belong together."""

    code = "study_error"


class StudyEmpty(StudyError):
    """Nothing in it can be shown. Details: ``left_out`` (how many of each kind)."""

    code = "study_empty"


class StudyTooLarge(StudyError):
    """More files, bytes, frames or pixels than one study may have; found before decoding."""

    code = "study_too_large"


class ArchiveUnreadable(StudyError):
    """A zip file that is damaged, encrypted, or packed in a way that is not read."""

    code = "archive_unreadable"


class SeriesNotFound(StudyError):
    """Details: ``series`` (how many there are)."""

    code = "series_not_found"


class BurnedIn(StudyError):
    """The header says that names are burnt into the pixels, and the caller refuses that."""

    code = "burned_in"


class SliceGeometry(StudyError):
    """Slices that make no volume, or not the one they seem to be."""

    code = "slice_geometry"


class SlicesUneven(SliceGeometry):
    """Slices are missing, or lie at uneven distances."""

    code = "slices_uneven"


class SlicesDuplicated(SliceGeometry):
    """Several slices lie at one place."""

    code = "slices_duplicated"


class GeometryMissing(SliceGeometry):
    """Position, orientation or spacing is not said for every slice."""

    code = "geometry_missing"


class GeometryContradictory(SliceGeometry):
    """What the headers say of orientation or spacing cannot all be true."""

    code = "geometry_contradictory"


# --- what a caller asked for -------------------------------------------------------------------


class RequestError(MedGemmaError):
    code = "request_error"


class InvalidRequest(RequestError):
    code = "invalid_request"


class EmptyPrompt(RequestError):
    code = "empty_prompt"


class ReservedToken(RequestError):
    """A text contains a control token of the model, which would change what the prompt means."""

    code = "reserved_token"


class KeywordNotInAnswer(RequestError):
    """Details: ``keyword``, ``answer``."""

    code = "keyword_not_in_answer"


class KeywordNotInPrompt(RequestError):
    """Details: ``keyword``, ``occurrences``."""

    code = "keyword_not_in_prompt"


class CharactersOutOfRange(RequestError):
    """Details: ``start``, ``end``, ``length`` (of the answer), ``answer``."""

    code = "characters_out_of_range"


class TooManyTargets(RequestError):
    """Details: ``targets``, ``limit``, ``answer``."""

    code = "too_many_targets"


class TokenOutOfRange(RequestError):
    """Details: ``position``, ``first``, ``last`` (the positions that can be explained)."""

    code = "token_out_of_range"


class EmptyAnswer(RequestError):
    """The model said nothing, so there is nothing to explain."""

    code = "empty_answer"


class SequenceTooLong(RequestError):
    code = "sequence_too_long"


class IdempotencyKeyReused(RequestError):
    """The key came with another question before."""

    code = "idempotency_key_reused"


class OutputError(RequestError):
    """A result cannot be given out in the form that was asked for."""

    code = "output_error"


class SourceMissing(OutputError):
    """The image itself is needed again, for what never travelled with the question."""

    code = "source_missing"


class SourceDiffers(OutputError):
    """The image given is another than the one that was explained. Details: ``image``."""

    code = "source_differs"


class SourceIncomplete(OutputError):
    """The header of the DICOM file lacks what another object needs to refer to it."""

    code = "source_incomplete"


class NotPlaced(OutputError):
    """The image has no place in the patient, so nothing can be placed by it."""

    code = "not_placed"


# --- manifests ---------------------------------------------------------------------------------


class ManifestError(RequestError):
    """Many questions in one file."""

    code = "manifest_error"


class ManifestUnusable(ManifestError):
    """No row of it can be asked: its kind is unknown, or a column that all rows need is missing."""

    code = "manifest_unusable"


class RowMalformed(ManifestError):
    """A line that cannot be taken apart into its fields, or with a field that is none."""

    code = "row_malformed"


class RowIncomplete(ManifestError):
    """A row without an item, an image or a prompt."""

    code = "row_incomplete"


class DuplicateItem(ManifestError):
    """The item of an earlier row."""

    code = "duplicate_item"


# --- jobs --------------------------------------------------------------------------------------


class JobError(MedGemmaError):
    code = "job_error"


class JobNotFound(JobError):
    code = "job_not_found"


class JobPurged(JobNotFound):
    """The job was there, and was deleted from the store before it ended."""

    code = "job_purged"


class JobNotFinished(JobError):
    code = "job_not_finished"


class JobCancelled(JobError):
    code = "job_cancelled"


class WaitTimeout(JobError):
    """The wait ended, not the job: it goes on, and can be waited for again."""

    code = "wait_timeout"


class JobTimeLimit(JobError):
    """The job ran longer than the worker's limit."""

    code = "time_limit"


class JobExpired(JobError):
    """The deadline that its caller set passed before it had finished."""

    code = "job_expired"


class WorkerLost(JobError):
    """Every attempt ended with the death of the process that ran it.

    Details: ``attempts``, ``deaths`` (what was known of each, as ``models.Death``).
    """

    code = "worker_lost"


class ArtifactDamaged(JobError):
    """An artifact is missing or its bytes are not those that the result names."""

    code = "artifact_damaged"


class JobNotFailed(JobError):
    """Only a job that failed or was cancelled can be put on the queue again."""

    code = "job_not_failed"


class RunNotFound(JobError):
    code = "run_not_found"


class RunUnderWay(JobError):
    """Another process works on the run."""

    code = "run_under_way"


# --- the model ---------------------------------------------------------------------------------


class ModelError(MedGemmaError):
    code = "model_error"


class ModelLoadFailed(ModelError):
    code = "model_load_failed"


class ModelNotServed(ModelError):
    """No worker has ever published this model to the store."""

    code = "model_not_served"


class ModelMismatch(ModelError):
    """The job names another model, revision or method than the worker holds."""

    code = "model_mismatch"


class NonFiniteRelevancy(ModelError):
    """NaN or infinity in attention, gradient or logits. Details: ``layer``."""

    code = "non_finite_relevancy"


class OutOfMemory(ModelError):
    code = "out_of_memory"


class DeviceError(ModelError):
    """A device that was asked for is not there, or was named wrongly."""

    code = "device_error"


# --- the parts around us -----------------------------------------------------------------------


class ServiceError(MedGemmaError):
    code = "service_error"


class BrokerUnreachable(ServiceError):
    code = "broker_unreachable"


class QueueFull(ServiceError):
    """As many messages wait as may. Details: ``waiting``, ``limit``."""

    code = "queue_full"


class StoreUnreachable(ServiceError):
    code = "store_unreachable"


class StoreRefused(ServiceError):
    """The store answered, and said no: credentials, bucket or policy."""

    code = "store_refused"


class DicomwebUnreachable(ServiceError):
    """The DICOMweb server gave no answer, or none that can be used."""

    code = "dicomweb_unreachable"


class DicomwebRefused(ServiceError):
    """The DICOMweb server answered, and said no. Details: ``status``."""

    code = "dicomweb_refused"


class InvalidSettings(ServiceError):
    code = "invalid_settings"


class PartMissing(ServiceError):
    """A program or package that an embedded part needs is not installed."""

    code = "part_missing"


# --- the gateway -------------------------------------------------------------------------------


class GatewayError(MedGemmaError):
    """What the HTTP gateway turns away before it is asked of anyone."""

    code = "gateway_error"


class KeyUnknown(GatewayError):
    """No API key, or none that is known."""

    code = "key_unknown"


class TooManyRequests(GatewayError):
    """More requests a minute than the key may make. Details: ``retry_after`` (seconds)."""

    code = "too_many_requests"


class QuotaUsedUp(GatewayError):
    """As many jobs today as the key may submit. Details: ``limit``, ``retry_after`` (seconds)."""

    code = "quota_used_up"


class TooManyUploads(GatewayError):
    """As many uploads are under way as may be. Details: ``retry_after`` (seconds)."""

    code = "too_many_uploads"


class UploadTooLarge(GatewayError):
    """Details: ``limit`` (bytes)."""

    code = "upload_too_large"


class UploadTooSlow(GatewayError):
    code = "upload_too_slow"


class UploadMalformed(GatewayError):
    """A body that is not what its Content-Type says."""

    code = "upload_malformed"


class UploadUnknownType(GatewayError):
    """A body of a Content-Type that is not read."""

    code = "upload_unknown_type"


class InternalError(MedGemmaError):
    """A defect of ours. The worker's log has the trace under the job's id."""

    code = "internal_error"


def _tree(root: type[MedGemmaError]) -> Iterator[type[MedGemmaError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def error_classes() -> dict[str, type[MedGemmaError]]:
    """Every error class by its code."""
    return {kind.code: kind for kind in _tree(MedGemmaError)}


def error_from_code(code: str, message: str, details: dict[str, Any]) -> MedGemmaError:
    """The error that a record describes; an unknown code gives the base class."""
    return error_classes().get(code, MedGemmaError)(message, **details)
