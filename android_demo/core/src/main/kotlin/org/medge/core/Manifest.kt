package org.medge.core

import com.google.gson.JsonObject
import java.io.File
import java.io.InputStream
import java.security.MessageDigest

/** One file of a bundle: path inside it, what it is for, bytes, SHA-256 in hexadecimal. */
class FileEntry(val path: String, val role: String, val bytes: Long, val sha256: String)

/** How one tower was made: its recipe, its main file, whether a batch gives what single images give, and patches merged in each block. */
class TowerFacts(val recipe: String, val file: String, val batchInvariant: Boolean, val merged: Int = 0)

/** What is known of a MedSigLIP without opening a file. `logitScale` is already exponentiated: logit = scale · cosine + bias. */
class EncoderFacts(
    val embeddingSize: Int,
    val imageSize: Int,
    val patchSize: Int,
    val textLength: Int,
    val logitScale: Double,
    val logitBias: Double,
    val parameters: Long,
)

/** What is known of a language model without opening a file; fields as in the Python runtime's `GeneratorFacts`. */
class GeneratorFacts(
    val parameters: Long,
    val layers: Int,
    val width: Int,
    val kvHeads: Int,
    val headSize: Int,
    val window: Int,
    val globalEvery: Int,
    val contextLength: Int,
    val vocabulary: Int,
    val imageSize: Int,
    val imageTokens: Int,
    val patchSize: Int,
)

/** `manifest.json` of a bundle; exactly one of [encoder] and [generator] is there. */
class Manifest(
    val name: String,
    val profile: String,
    val target: String,
    val digest: String,
    val licence: String,
    val parity: String,
    val encoder: EncoderFacts?,
    val generator: GeneratorFacts?,
    val towers: Map<String, TowerFacts>,
    val files: List<FileEntry>,
) {
    /** Bytes of all files. */
    val bytes: Long get() = files.sumOf { it.bytes }

    /** The file with this role, or null. */
    fun file(role: String): FileEntry? = files.firstOrNull { it.role == role }

    /** Names the embedding space: what an index or a probe made with this bundle belongs to. */
    val fingerprint: String get() = "${file("vision")?.sha256.orEmpty()}/$profile"

    companion object {
        const val NAME = "manifest.json"
        const val FORMAT_VERSION = 1
        const val MOST_BYTES = 4 shl 20 // a real one has tens of kilobytes
        private const val SEAL_BYTES = 83 // of [seal]

        /** How a manifest ends whose other bytes are [before]: with their SHA-256. */
        internal fun seal(before: ByteArray): String = ",\n  \"digest\": \"${sha256(before)}\"\n}\n"

        /**
         * Read the bytes of a manifest and check its own digest, its format and the paths that it names.
         *
         * @throws MedgeException damaged, changed, of a newer format, or with a path that leaves the bundle
         */
        fun parse(bytes: ByteArray): Manifest {
            val text = String(bytes)
            val body = parseJson(text) as? JsonObject ?: throw MedgeException(Problem.MANIFEST_DAMAGED)
            val version = body.int("format_version") ?: throw MedgeException(Problem.MANIFEST_DAMAGED)
            demand(version <= FORMAT_VERSION, Problem.NEWER_FORMAT) { listOf(version, FORMAT_VERSION) }
            demand(text.endsWith(seal(bytes.copyOf(maxOf(0, bytes.size - SEAL_BYTES)))), Problem.MANIFEST_CHANGED)
            return try {
                read(body)
            } catch (error: NullPointerException) {
                throw MedgeException(Problem.MANIFEST_DAMAGED, cause = error)
            }
        }

        private fun read(body: JsonObject): Manifest {
            val model = body.child("model")!!
            val generates = model.has("stop_ids")
            return Manifest(
                name = body.text("name")!!,
                profile = body.text("profile")!!,
                target = body.text("target")!!,
                digest = body.text("digest")!!,
                licence = body.text("licence").orEmpty(),
                parity = body.child("parity")?.text("status") ?: "not measured",
                encoder = if (generates) null else encoderFacts(model),
                generator = if (generates) generatorFacts(model) else null,
                towers = body.child("towers")!!.entrySet().associate { (name, value) ->
                    val facts = value as JsonObject
                    val merged = facts.child("decisions")?.int("merged_tokens_a_block") ?: 0
                    name to TowerFacts(facts.text("recipe")!!, facts.text("file")!!, facts.flag("batch_invariant") ?: true, merged)
                },
                files = body.list("files")!!.map { value ->
                    val entry = value as JsonObject
                    val path = entry.text("path")!!
                    demand(isInside(path), Problem.UNSAFE_PATH) { listOf(path) }
                    FileEntry(path, entry.text("role")!!, entry.long("bytes")!!, entry.text("sha256")!!)
                },
            )
        }

        private fun encoderFacts(model: JsonObject) = EncoderFacts(
            embeddingSize = model.int("embedding_size")!!,
            imageSize = model.int("image_size")!!,
            patchSize = model.int("patch_size")!!,
            textLength = model.int("text_length")!!,
            logitScale = model.number("logit_scale")!!,
            logitBias = model.number("logit_bias")!!,
            parameters = model.long("parameters")!!,
        )

        private fun generatorFacts(model: JsonObject) = GeneratorFacts(
            parameters = model.long("parameters")!!,
            layers = model.int("layers")!!,
            width = model.int("width")!!,
            kvHeads = model.int("kv_heads")!!,
            headSize = model.int("head_size")!!,
            window = model.int("window")!!,
            globalEvery = model.int("global_every")!!,
            contextLength = model.int("context_length")!!,
            vocabulary = model.int("vocabulary")!!,
            imageSize = model.int("image_size")!!,
            imageTokens = model.int("image_tokens")!!,
            patchSize = model.int("patch_size")!!,
        )

        /** Whether a path stays inside the folder it is relative to. */
        internal fun isInside(path: String): Boolean =
            path.isNotEmpty() && !path.startsWith("/") && '\\' !in path && '\u0000' !in path &&
                path.split('/').none { it.isEmpty() || it == "." || it == ".." }
    }
}

/** A folder with a manifest that has been read; [verify] looks at the files. */
class Bundle private constructor(val folder: File, val manifest: Manifest) {
    /** The file with this role, or null where the bundle has none. */
    fun path(role: String): File? = manifest.file(role)?.let { File(folder, it.path) }

    /**
     * Check that every file is there and whole; with [hashes], that not a byte was changed.
     *
     * @throws MedgeException naming the first file that isn't
     */
    fun verify(hashes: Boolean = true) {
        for (entry in manifest.files) {
            val file = File(folder, entry.path)
            demand(file.isFile, Problem.FILE_MISSING) { listOf(entry.path) }
            demand(file.length() == entry.bytes, Problem.FILE_TRUNCATED) { listOf(entry.path, file.length(), entry.bytes) }
            demand(!hashes || sha256(file) == entry.sha256, Problem.FILE_CHANGED) { listOf(entry.path) }
        }
    }

    companion object {
        /**
         * Open a bundle whose parity gate passed.
         *
         * @throws MedgeException missing, damaged, changed, too new, its gate not passed, or only for other devices
         */
        fun open(folder: File): Bundle {
            val file = File(folder, Manifest.NAME)
            demand(file.isFile, Problem.NO_MANIFEST)
            demand(file.length() <= Manifest.MOST_BYTES, Problem.MANIFEST_DAMAGED)
            val manifest = Manifest.parse(file.readBytes())
            manifest.checkUsable()
            return Bundle(folder, manifest)
        }
    }
}

/** @throws MedgeException the parity gate did not pass, or there is nothing that this runtime opens */
internal fun Manifest.checkUsable() {
    demand(towers.isNotEmpty(), Problem.FOR_OTHER_DEVICES) { listOf("arm-dotprod") }
    demand(parity == "passed", Problem.PARITY_NOT_PASSED) { listOf(parity) }
}

internal fun sha256(bytes: ByteArray): String = hex(MessageDigest.getInstance("SHA-256").digest(bytes))

internal fun sha256(file: File): String = file.inputStream().use { stream ->
    val digest = MessageDigest.getInstance("SHA-256")
    feed(stream, digest)
    hex(digest.digest())
}

internal fun feed(stream: InputStream, digest: MessageDigest) {
    val buffer = ByteArray(1 shl 16)
    while (true) {
        val count = stream.read(buffer)
        if (count < 0) return
        digest.update(buffer, 0, count)
    }
}

internal fun hex(bytes: ByteArray): String = bytes.joinToString("") { "%02x".format(it) }
