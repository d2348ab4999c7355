package org.medge.core

/**
 * What can go wrong in a way that a person should read about.
 *
 * The app shows each in the user's language (its string resource is named for it, see `Problems.kt` there); [english] is for logs, for
 * tests and for whoever reuses `core`. Placeholders are positional, the same in every language.
 */
enum class Problem(val english: String) {
    NO_MANIFEST("There is no complete bundle here: manifest.json is missing."),
    MANIFEST_DAMAGED("The bundle's manifest is damaged. Copy the bundle again."),
    MANIFEST_CHANGED("The bundle's manifest was changed after it was written. Copy or export the bundle again."),
    NEWER_FORMAT("The bundle has format %1\$s; this app reads format %2\$s. Update the app."),
    OLDER_FORMAT("The bundle has format %1\$s; this app reads format %2\$s. Export the bundle again."),
    PARITY_NOT_PASSED("The bundle's distance from the original model is not within its limits (%1\$s), so it is not used."),
    FOR_OTHER_DEVICES("The bundle holds nothing that runs on this phone. Export it for %1\$s."),
    UNSAFE_PATH("The bundle names a file outside its folder (%1\$s). It is not used."),
    FILE_MISSING("%1\$s is missing from the bundle. Copy the bundle again."),
    FILE_TRUNCATED("%1\$s has %2\$s bytes instead of %3\$s. Copy the bundle again."),
    FILE_CHANGED("%1\$s was changed or damaged on the way. Copy the bundle again."),
    UNSIGNED("The bundle is not signed, and this phone uses signed bundles only. Ask its maker for a signed one."),
    SIGNATURE_DAMAGED("The bundle's signature is damaged, or of a kind that this app does not read (%1\$s). Copy the bundle again."),
    SIGNATURE_FORGED("The bundle is not signed by the key that its signature names (%1\$s). It is not used."),
    KEY_UNKNOWN("The bundle is signed by a key that this phone does not trust (%1\$s). It is not used."),
    KEY_REVOKED("The bundle is signed by a key that was revoked (%1\$s: %2\$s). Ask for one that is signed anew."),
    NOT_WHAT_WAS_SIGNED("%1\$s is not what was signed. Copy the bundle again."),
    TRUST_DAMAGED("What this phone knows of trusted keys is damaged (%1\$s). Nothing is imported until it is replaced."),
    DISK_FULL("There is no room for the bundle: %1\$s MB more are needed. What was copied is kept; free some space and import again."),
    COPY_INTERRUPTED("Copying %1\$s was interrupted. What was copied is kept; connect the storage and import again."),
    TOO_LARGE("%1\$s is too large for this phone: it needs %2\$s MB of memory and %3\$s MB can be used."),
    COMPUTES_DIFFERENTLY("This phone does not compute what the bundle promises (%1\$s), so the bundle is not used."),
    ENGINE_REFUSES("The model file can't be opened (%1\$s)."),
    NO_TEXT_TOWER("This bundle scores its own labels only; it can't take others."),
    WRONG_KIND("The bundle is of another kind than this needs: %1\$s."),
    TENSORS_DAMAGED("%1\$s is damaged. Copy the bundle again."),
    PROBE_OF_OTHER_BUNDLE("This probe was fitted on another bundle. Use that bundle, or fit it again."),
    SCORES_OF_OTHER_BUNDLE("The thresholds in this bundle were set for the scores of another one, and would be wrong here. Calibrate this bundle, and copy it again."),
    INDEX_OF_OTHER_BUNDLE("The saved images belong to another bundle, so they can't be compared. Save them again."),
    TOKENIZER_UNKNOWN("The bundle's tokenizer is of a kind that this app does not read (%1\$s)."),
    NO_LABELS("There is no label to choose from."),
    IMAGE_UNREADABLE("The file is no image that this app reads (JPEG, PNG, DICOM)."),
    IMAGE_TOO_LARGE("The image has more pixels than a phone can hold (%1\$s million)."),
    DICOM_DAMAGED("The DICOM file is damaged or incomplete (%1\$s)."),
    DICOM_NO_PICTURE("The DICOM file holds no picture (%1\$s)."),
    DICOM_TRANSFER_SYNTAX("This app does not read this DICOM file: its transfer syntax is %1\$s. It reads uncompressed and JPEG baseline."),
    DICOM_UNSUPPORTED("This app does not read this DICOM file: %1\$s."),
    NO_LANGUAGE_ENGINE("This build of the app has no language model for this phone's processor (%1\$s)."),
    TEXT_ONLY("This build answers about text only, it can't look at the image."),
    CONTEXT_FULL("The conversation is %1\$s tokens too long. Start a new one."),
    ANSWER_FAILED("The model stopped in the middle of the answer (%1\$s). What it wrote is kept."),
    NO_CAMERA("The camera can't be used: this phone has none, or does not allow it. Choose a picture instead."),
    TOO_HOT("The phone is too hot. The answer waits until it has cooled down."),
    LOW_MEMORY("The phone ran short of memory. The model was put away; ask again to load it."),
    ;

    /** The English sentence with its placeholders filled in. */
    fun sentence(vararg arguments: Any): String = String.format(java.util.Locale.ROOT, english, *arguments.map { it.toString() }.toTypedArray())
}

/** A [Problem] that ends what was being done; [arguments] fill its placeholders. */
class MedgeException(val problem: Problem, vararg val arguments: Any, cause: Throwable? = null) :
    Exception(problem.sentence(*arguments), cause)

/** End with [problem] unless [condition] holds. */
internal inline fun demand(condition: Boolean, problem: Problem, arguments: () -> List<Any> = { emptyList() }) {
    if (!condition) throw MedgeException(problem, *arguments().toTypedArray())
}
