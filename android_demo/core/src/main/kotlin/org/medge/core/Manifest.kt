package org.medge.core

import com.google.gson.JsonObject
import java.io.File
import java.io.InputStream
import java.security.MessageDigest

/** One file of a bundle: path inside it, what it is for, bytes, SHA-256 in hexadecimal. */
class FileEntry(val path: String, val role: String, val bytes: Long, val sha256: String)

/** What a bundle is: [id] names it in manifests, [opens] the format of it that this runtime opens. */
enum class Kind(val id: String, internal val opens: String) { ENCODER("encoder", "onnx"), GENERATOR("generator", "gguf") }

/** How near a device must come to the golden results: the [statistic], "min" or "mean", of their cosines must reach [cosine]. */
class GoldenBound(val statistic: String, val cosine: Double) {
    /** What is held against [cosine]. */
    fun of(cosines: List<Float>): Float = if (statistic == "mean") cosines.average().toFloat() else cosines.minOrNull()!!
}

/** How one tower was made, its main file and that file's format, and the names by which an ONNX graph is called. */
class TowerFacts(
    val recipe: String,
    val file: String,
    val format: String,
    val golden: GoldenBound,
    val inputs: List<String> = emptyList(),
    val output: String = "",
)

/** How an image becomes numbers. */
class Preprocessing(val profile: String, val normalisation: Normalisation)

/** How a tokenizer's ids become a row of the text tower's input: [length] of them, ended by [endId], filled up with [padId]. */
class TokenizerFacts(val length: Int, val endId: Int, val padId: Int)

/** What is known of an image-text encoder without opening a file. `logitScale` is already exponentiated: logit = scale · cosine + bias. [sigmoid]: whether its sigmoid says whether a label holds. */
class EncoderFacts(
    val embeddingSize: Int,
    val imageSize: Int,
    val patchSize: Int,
    val tokenizer: TokenizerFacts,
    val logitScale: Double,
    val logitBias: Double,
    val parameters: Long,
    val sigmoid: Boolean = true,
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

/** `manifest.json` of a bundle: of its [kind] the facts are there, and of the format that this runtime opens the [towers] and their [parity], with [warnings] of what was lost all the same. */
class Manifest(
    val kind: Kind,
    val name: String,
    private val preprocessing: Preprocessing?,
    val target: String,
    val digest: String,
    val licence: String,
    val parity: String,
    val warnings: List<String>,
    val encoder: EncoderFacts?,
    val generator: GeneratorFacts?,
    val towers: Map<String, TowerFacts>,
    val files: List<FileEntry>,
) {
    /** @throws MedgeException the model reads text only */
    val images: Preprocessing get() = preprocessing ?: throw MedgeException(Problem.TEXT_ONLY)

    /** Bytes of all files. */
    val bytes: Long get() = files.sumOf { it.bytes }

    /** The file with this role, or null. */
    fun file(role: String): FileEntry? = files.firstOrNull { it.role == role }

    /** Names the embedding space: what an index or a probe made with this bundle belongs to. */
    val fingerprint: String get() = "${file("vision")?.sha256.orEmpty()}/${images.profile}"

    companion object {
        const val NAME = "manifest.json"
        const val FORMAT_VERSION = 2
        const val MOST_BYTES = 4 shl 20 // a real one has tens of kilobytes
        private const val SEAL_BYTES = 83 // of [seal]

        /** How a manifest ends whose other bytes are [before]: with their SHA-256. */
        internal fun seal(before: ByteArray): String = ",\n  \"digest\": \"${sha256(before)}\"\n}\n"

        /**
         * Read the bytes of a manifest and check its own digest, its format and the paths that it names.
         *
         * @throws MedgeException damaged, changed, of another format or kind, or with a path that leaves the bundle
         */
        fun parse(bytes: ByteArray): Manifest {
            val text = String(bytes)
            val body = parseJson(text) as? JsonObject ?: throw MedgeException(Problem.MANIFEST_DAMAGED)
            val version = body.int("format_version") ?: throw MedgeException(Problem.MANIFEST_DAMAGED)
            demand(version <= FORMAT_VERSION, Problem.NEWER_FORMAT) { listOf(version, FORMAT_VERSION) }
            demand(version >= FORMAT_VERSION, Problem.OLDER_FORMAT) { listOf(version, FORMAT_VERSION) }
            demand(text.endsWith(seal(bytes.copyOf(maxOf(0, bytes.size - SEAL_BYTES)))), Problem.MANIFEST_CHANGED)
            return try {
                read(body)
            } catch (error: RuntimeException) { // a field is missing, or of another form
                throw MedgeException(Problem.MANIFEST_DAMAGED, cause = error)
            }
        }

        private fun read(body: JsonObject): Manifest {
            val model = body.child("model")!!
            val named = body.text("kind")!!
            val kind = Kind.values().firstOrNull { it.id == named } ?: throw MedgeException(Problem.WRONG_KIND, named)
            val opened = body.child("artefacts")!!.child(kind.opens)
            return Manifest(
                kind = kind,
                name = body.text("name")!!,
                preprocessing = body.child("preprocessing")?.let(::preprocessing),
                target = body.text("target")!!,
                digest = body.text("digest")!!,
                licence = body.text("licence").orEmpty(),
                parity = opened?.child("parity")?.text("status") ?: "not measured",
                warnings = opened?.child("parity")?.list("warnings")?.map { it.asString }.orEmpty(),
                encoder = if (kind == Kind.ENCODER) encoderFacts(model) else null,
                generator = if (kind == Kind.GENERATOR) generatorFacts(model) else null,
                towers = opened?.child("towers")?.entrySet().orEmpty().associate { (name, value) -> name to towerFacts(value as JsonObject) },
                files = body.list("files")!!.map { value ->
                    val entry = value as JsonObject
                    val path = entry.text("path")!!
                    demand(isInside(path), Problem.UNSAFE_PATH) { listOf(path) }
                    FileEntry(path, entry.text("role")!!, entry.long("bytes")!!, entry.text("sha256")!!)
                },
            )
        }

        private fun preprocessing(body: JsonObject): Preprocessing {
            fun channels(name: String) = body.list(name)!!.map { it.asDouble }.also { demand(it.size == 3, Problem.MANIFEST_DAMAGED) }
            return Preprocessing(body.text("profile")!!, Normalisation(channels("mean"), channels("std")))
        }

        private fun towerFacts(body: JsonObject): TowerFacts {
            val golden = body.child("golden")!!
            val statistic = golden.text("statistic")!!.also { demand(it == "min" || it == "mean", Problem.MANIFEST_DAMAGED) }
            return TowerFacts(
                recipe = body.text("recipe")!!,
                file = body.text("file")!!,
                format = body.text("format")!!,
                golden = GoldenBound(statistic, golden.number("cosine")!!),
                inputs = body.list("inputs")!!.map { it.asString },
                output = body.text("output")!!,
            )
        }

        private fun tokenizerFacts(body: JsonObject) =
            TokenizerFacts(body.int("length")!!, body.int("end_id")!!, body.int("pad_id")!!)

        private fun encoderFacts(model: JsonObject) = EncoderFacts(
            embeddingSize = model.int("embedding_size")!!,
            imageSize = model.int("image_size")!!,
            patchSize = model.int("patch_size")!!,
            tokenizer = tokenizerFacts(model.child("tokenizer")!!),
            logitScale = model.number("logit_scale")!!,
            logitBias = model.number("logit_bias")!!,
            parameters = model.long("parameters")!!,
            sigmoid = model.get("sigmoid")?.asBoolean ?: true,
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

    /** What a language model sees with, or null where it reads text only. */
    val eyes: Eyes? get() = manifest.towers["projector"]?.let { Eyes(File(folder, it.file), it, manifest.images.normalisation) }

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
