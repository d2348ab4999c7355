package org.medge.core

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import java.io.Closeable
import java.nio.FloatBuffer
import java.nio.LongBuffer

/**
 * A MedSigLIP bundle that embeds images and texts, by ONNX Runtime.
 *
 * A model is opened by its path: ONNX Runtime maps the weights that lie beside it, and nothing of them passes through a Java array. One
 * tower is open at a time, since a phone has room for one.
 *
 * @param provider "cpu", "xnnpack" or "nnapi"; see [ProviderChoice]
 */
class Encoder(val bundle: Bundle, private val threads: Int, private val provider: String = ProviderChoice.CPU) : Closeable {
    private val facts = bundle.manifest.encoder ?: throw MedgeException(Problem.WRONG_KIND, bundle.manifest.name)
    private val profile = Profile.of(bundle.manifest.profile)
    private val environment: OrtEnvironment = OrtEnvironment.getEnvironment()
    private var open: Pair<String, OrtSession>? = null
    private val tokenizer: Tokenizer by lazy {
        Tokenizer.load(bundle.path("tokenizer") ?: throw MedgeException(Problem.NO_TEXT_TOWER), facts.textLength)
    }

    /** The labels baked into the bundle, or null. */
    val bakedLabels: LabelBank? by lazy { bundle.path("labels")?.let(LabelBank::load) }

    /** The normalised embedding of an image. */
    fun embed(image: Pixels): FloatArray = embedPrepared(profile.prepare(image, facts.imageSize))

    /** The normalised embedding of a prepared input, 3 × side × side in [-1, 1]. */
    fun embedPrepared(pixels: FloatArray): FloatArray {
        val shape = longArrayOf(1, 3, facts.imageSize.toLong(), facts.imageSize.toLong())
        return run("vision", "pixel_values") { OnnxTensor.createTensor(environment, FloatBuffer.wrap(pixels), shape) }
    }

    /** The normalised embedding of a text. */
    fun embed(text: String): FloatArray = embedIds(tokenizer.encode(text).ids)

    /** The normalised embedding of token ids. */
    fun embedIds(ids: LongArray): FloatArray =
        run("text", "input_ids") { OnnxTensor.createTensor(environment, LongBuffer.wrap(ids), longArrayOf(1, ids.size.toLong())) }

    /** A bank of these labels; see [LabelBank.promptsOf]. */
    fun bank(prompts: Map<String, List<String>>): LabelBank = LabelBank.build(prompts) { embed(it) }

    /** Scores of an image against a bank, in the labels' order. */
    fun classify(image: Pixels, bank: LabelBank): List<Score> = score(embed(image), bank)

    /** Scores of an embedding against a bank, in the labels' order. */
    fun score(embedding: FloatArray, bank: LabelBank): List<Score> = score(embedding, bank, facts.logitScale, facts.logitBias)

    private fun run(tower: String, input: String, tensor: () -> OnnxTensor): FloatArray = try {
        tensor().use { values ->
            session(tower).run(mapOf(input to values), setOf(OUTPUT)).use { result ->
                val output = (result.get(0) as OnnxTensor).floatBuffer
                normalised(FloatArray(output.remaining()).also { output.get(it) })
            }
        }
    } catch (error: OrtException) {
        throw MedgeException(Problem.ENGINE_REFUSES, error.message.orEmpty().take(200), cause = error)
    }

    private fun session(tower: String): OrtSession {
        open?.let { (name, session) -> if (name == tower) return session }
        close()
        val path = bundle.path(tower) ?: throw MedgeException(Problem.NO_TEXT_TOWER)
        val session = OrtSession.SessionOptions().use { options ->
            options.setIntraOpNumThreads(threads)
            // As the Python runtime: a second, packed copy of the weights is memory that a phone lacks.
            options.setCPUArenaAllocator(false)
            options.addConfigEntry("session.disable_prepacking", "1")
            when (provider) {
                "xnnpack" -> options.addXnnpack(mapOf("intra_op_num_threads" to threads.toString()))
                "nnapi" -> options.addNnapi()
            }
            environment.createSession(path.path, options)
        }
        open = tower to session
        return session
    }

    /** Free the model's memory; it is opened again when it is used again. */
    override fun close() {
        open?.second?.close()
        open = null
    }

    private companion object {
        const val OUTPUT = "pooler_output"
    }
}

/** Golden inputs and embeddings that every bundle carries: a phone replays them and sees that it computes the same. */
object Golden {
    /** Least cosine with what the exporting machine computed, by recipe; the same table as in the Python runtime's `gates.py`. */
    val COSINE = mapOf(
        "fp32" to 0.999999, "fp16" to 0.9999, "int8" to 0.999, "int8-static" to 0.999, "int4" to 0.9999, "fast" to 0.999, "turbo" to 0.999,
    )

    /** The least cosine over all golden images. */
    fun imageCosine(encoder: Encoder): Float {
        val golden = SafeTensors(encoder.bundle.path("golden") ?: throw MedgeException(Problem.FILE_MISSING, "golden.safetensors"))
        val (count, side) = golden["pixels"].shape
        val bytes = golden["pixels"].raw()
        val size = side * side * 3
        val expected = rowsOf(golden["image_embeddings"])
        return (0 until count).minOf { index ->
            val pixels = Pixels.of(side, side, bytes.copyOfRange(index * size, (index + 1) * size))
            dot(encoder.embedPrepared(normalise(pixels)), expected[index])
        }
    }

    /**
     * Replay what the bundle carries.
     *
     * @throws MedgeException the phone computes something else, with what and how far
     */
    fun replay(encoder: Encoder) {
        val manifest = encoder.bundle.manifest
        val golden = SafeTensors(encoder.bundle.path("golden") ?: throw MedgeException(Problem.FILE_MISSING, "golden.safetensors"))
        val (height, width) = golden["source"].shape
        val side = manifest.encoder!!.imageSize
        val source = Profile.of(manifest.profile).resize(Pixels.of(width, height, golden["source"].raw()), side).bytes()
        val expectedPixels = golden["pixels"].raw()
        val error = source.indices.maxOf { kotlin.math.abs((source[it].toInt() and 0xff) - (expectedPixels[it].toInt() and 0xff)) }
        demand(error <= 1, Problem.COMPUTES_DIFFERENTLY) { listOf("pixels differ by $error") }
        judge("image", imageCosine(encoder), manifest.towers.getValue("vision"))
        if ("text" in manifest.towers) {
            val ids = golden["ids"].longs()
            val expected = rowsOf(golden["text_embeddings"])
            val length = golden["ids"].shape[1]
            val least = expected.indices.minOf { dot(encoder.embedIds(ids.copyOfRange(it * length, (it + 1) * length)), expected[it]) }
            judge("text", least, manifest.towers.getValue("text"))
        }
    }

    private fun judge(what: String, cosine: Float, tower: TowerFacts) {
        val bound = COSINE[tower.recipe] ?: throw MedgeException(Problem.WRONG_KIND, tower.recipe)
        demand(cosine >= bound, Problem.COMPUTES_DIFFERENTLY) { listOf("$what embeddings, cosine $cosine, at least $bound expected") }
    }
}
