package org.medge.app

import android.content.Context
import org.medge.core.Fit
import org.medge.core.MedgeException
import org.medge.core.Plan
import org.medge.core.Problem

/** What went wrong, in the user's language. */
fun Context.explain(error: MedgeException): String = getString(textOf(error.problem), *error.arguments)

/** What a person should know of a plan before using it; empty where the model runs in memory. */
fun Context.warning(plan: Plan): String {
    if (plan.fit != Fit.FROM_STORAGE) return ""
    val seconds = plan.secondsAToken ?: return getString(R.string.storage_unmeasured)
    return getString(R.string.storage_measured, if (seconds < 10) "%.1f".format(seconds) else "%.0f".format(seconds))
}

/** The sentence of a problem; the compiler sees to it that each has one. */
private fun textOf(problem: Problem): Int = when (problem) {
    Problem.NO_MANIFEST -> R.string.problem_no_manifest
    Problem.MANIFEST_DAMAGED -> R.string.problem_manifest_damaged
    Problem.MANIFEST_CHANGED -> R.string.problem_manifest_changed
    Problem.NEWER_FORMAT -> R.string.problem_newer_format
    Problem.OLDER_FORMAT -> R.string.problem_older_format
    Problem.PARITY_NOT_PASSED -> R.string.problem_parity_not_passed
    Problem.FOR_OTHER_DEVICES -> R.string.problem_for_other_devices
    Problem.UNSAFE_PATH -> R.string.problem_unsafe_path
    Problem.FILE_MISSING -> R.string.problem_file_missing
    Problem.FILE_TRUNCATED -> R.string.problem_file_truncated
    Problem.FILE_CHANGED -> R.string.problem_file_changed
    Problem.UNSIGNED -> R.string.problem_unsigned
    Problem.SIGNATURE_DAMAGED -> R.string.problem_signature_damaged
    Problem.SIGNATURE_FORGED -> R.string.problem_signature_forged
    Problem.KEY_UNKNOWN -> R.string.problem_key_unknown
    Problem.KEY_REVOKED -> R.string.problem_key_revoked
    Problem.NOT_WHAT_WAS_SIGNED -> R.string.problem_not_what_was_signed
    Problem.TRUST_DAMAGED -> R.string.problem_trust_damaged
    Problem.DISK_FULL -> R.string.problem_disk_full
    Problem.COPY_INTERRUPTED -> R.string.problem_copy_interrupted
    Problem.TOO_LARGE -> R.string.problem_too_large
    Problem.COMPUTES_DIFFERENTLY -> R.string.problem_computes_differently
    Problem.ENGINE_REFUSES -> R.string.problem_engine_refuses
    Problem.NO_TEXT_TOWER -> R.string.problem_no_text_tower
    Problem.WRONG_KIND -> R.string.problem_wrong_kind
    Problem.TENSORS_DAMAGED -> R.string.problem_tensors_damaged
    Problem.PROBE_OF_OTHER_BUNDLE -> R.string.problem_probe_of_other_bundle
    Problem.SCORES_OF_OTHER_BUNDLE -> R.string.problem_scores_of_other_bundle
    Problem.INDEX_OF_OTHER_BUNDLE -> R.string.problem_index_of_other_bundle
    Problem.TOKENIZER_UNKNOWN -> R.string.problem_tokenizer_unknown
    Problem.NO_LABELS -> R.string.problem_no_labels
    Problem.IMAGE_UNREADABLE -> R.string.problem_image_unreadable
    Problem.IMAGE_TOO_LARGE -> R.string.problem_image_too_large
    Problem.DICOM_DAMAGED -> R.string.problem_dicom_damaged
    Problem.DICOM_NO_PICTURE -> R.string.problem_dicom_no_picture
    Problem.DICOM_TRANSFER_SYNTAX -> R.string.problem_dicom_transfer_syntax
    Problem.DICOM_UNSUPPORTED -> R.string.problem_dicom_unsupported
    Problem.NO_LANGUAGE_ENGINE -> R.string.problem_no_language_engine
    Problem.TEXT_ONLY -> R.string.problem_text_only
    Problem.CONTEXT_FULL -> R.string.problem_context_full
    Problem.ANSWER_FAILED -> R.string.problem_answer_failed
    Problem.NO_CAMERA -> R.string.problem_no_camera
    Problem.TOO_HOT -> R.string.problem_too_hot
    Problem.LOW_MEMORY -> R.string.problem_low_memory
}
