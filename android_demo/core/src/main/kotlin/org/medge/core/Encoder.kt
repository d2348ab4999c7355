package org.medge.core

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import java.io.Closeable
import java.nio.FloatBuffer
import java.nio.LongBuffer

/**
 * An encoder's bundle that embeds images and texts, by ONNX Runtime.
 *
 * A model is opened by its path: ONNX Runtime maps the weights that lie beside it, and nothing of them passes through a Java array. One
 * tower is open at a time, since a phone has room for one.
 *
 * @param provider "cpu", "xnnpack" or "nnapi"; see [ProviderChoice]
 */
class Encoder(val bundle: Bundle, private val threads: Int, private val provider: String = ProviderChoice.CPU) : Closeable {
    private val facts = bundle.manifest.encoder ?: throw MedgeException(Problem.WRONG_KIND, bundle.manifest.name)
    private val images = bundle.manifest.images
    private val profile = Profile.of(images.profile)
    private val environment: OrtEnvironment = OrtEnvironment.getEnvironment()
    private var open: Pair<String, OrtSession>? = null
    private val tokenizer: Tokenizer by lazy {
        Tokenizer.load(bundle.path("tokenizer") ?: throw MedgeException(Problem.NO_TEXT_TOWER), facts.tokenizer)
    }

    /** The labels baked into the bundle, or null. */
    val bakedLabels: LabelBank? by lazy { bundle.path("labels")?.let(LabelBank::load) }

    /** How the scores of the bundle's own labels are calibrated, or null where they are not. */
    val calibration: ScoreCalibration? by lazy { ScoreCalibration.of(bundle) }

    /** The unit-length embedding of an image. */
    fun embed(image: Pixels): FloatArray = embedResized(profile.resize(image, facts.imageSize))

    /** The unit-length embedding of an image of the model's size. */
    fun embedResized(image: Pixels): FloatArray = embedPrepared(images.normalisation.of(image))

    /** The unit-length embedding of a prepared input, 3 × side × side. */
    fun embedPrepared(pixels: FloatArray): FloatArray {
        val shape = longArrayOf(1, 3, facts.imageSize.toLong(), facts.imageSize.toLong())
        return run("vision") { OnnxTensor.createTensor(environment, FloatBuffer.wrap(pixels), shape) }
    }

    /** The unit-length embedding of a text. */
    fun embed(text: String): FloatArray = embedIds(tokenizer.encode(text).ids)

    /** The unit-length embedding of token ids. */
    fun embedIds(ids: LongArray): FloatArray = run("text") { name ->
        val row = if (name == "attention_mask") tokenizer.mask(ids) else ids
        OnnxTensor.createTensor(environment, LongBuffer.wrap(row), longArrayOf(1, ids.size.toLong()))
    }

    /** A bank of these labels; see [LabelBank.promptsOf]. */
    fun bank(prompts: Map<String, List<String>>): LabelBank = LabelBank.build(prompts) { embed(it) }

    /** Scores of an image against a bank, in the labels' order. */
    fun classify(image: Pixels, bank: LabelBank): List<Score> = score(embed(image), bank)

    /** Scores of an embedding against a bank, in the labels' order. */
    fun score(embedding: FloatArray, bank: LabelBank): List<Score> = score(embedding, bank, facts)

    /**
     * What calibrated scores say of an embedding; null of a bundle whose scores are not calibrated. For other labels than the bundle's own
     * it is only said whether the picture is unlike all, and of which kind it is.
     */
    fun decide(embedding: FloatArray, bank: LabelBank?): Decision? = calibration?.let { known ->
        val own = bakedLabels?.takeIf { bank != null && bank.prompts.toList() == it.prompts.toList() }
        known.decide(embedding, own?.let { labels -> logits(FloatArray(labels.names.size) { dot(embedding, labels.embeddings[it]) }, facts) })
    }

    private fun run(tower: String, tensor: (String) -> OnnxTensor): FloatArray = try {
        val facts = bundle.manifest.towers[tower] ?: throw MedgeException(Problem.NO_TEXT_TOWER)
        unitLength(session(tower).floats(facts, tensor))
    } catch (error: OrtException) {
        throw MedgeException(Problem.ENGINE_REFUSES, error.message.orEmpty().take(200), cause = error)
    }

    private fun session(tower: String): OrtSession {
        open?.let { (name, session) -> if (name == tower) return session }
        close()
        val path = bundle.path(tower) ?: throw MedgeException(Problem.NO_TEXT_TOWER)
        val session = OrtSession.SessionOptions().use { options ->
            options.onLittleMemory(threads)
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
}

/** Measures the ways in which this phone could run a bundle's vision tower, on the bundle's own golden images. */
object ProviderTrial {
    /**
     * Seconds and cosine of each provider that opens the model; one that doesn't is left out.
     *
     * @param clock seconds since any fixed moment
     */
    fun measure(bundle: Bundle, threads: Int, providers: List<String>, clock: () -> Double = { System.nanoTime() / 1e9 }): List<Measured> =
        providers.mapNotNull { provider ->
            try {
                Encoder(bundle, threads, provider).use { encoder ->
                    val cosine = Golden.imageCosine(encoder) // opens the model and warms it up
                    val start = clock()
                    Golden.imageCosine(encoder)
                    Measured(provider, clock() - start, cosine)
                }
            } catch (error: MedgeException) {
                if (provider == ProviderChoice.CPU) throw error
                null
            }
        }

    /** The provider to use for a bundle; the bound is the one that its import was judged by. */
    fun choose(bundle: Bundle, threads: Int, providers: List<String>): String =
        ProviderChoice.choose(measure(bundle, threads, providers), bundle.manifest.towers.getValue("vision").golden.cosine)
}
