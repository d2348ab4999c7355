package org.medge.core

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import java.io.Closeable
import java.io.File
import java.nio.FloatBuffer

/**
 * A language model's vision tower and projector in ONNX Runtime, for bundles that merge similar patches: llama.cpp's own tower can't.
 *
 * Opened when the first image comes, so that questions about text don't pay for it.
 */
internal class OnnxTower(private val path: File, private val threads: Int) : Closeable {
    private val environment: OrtEnvironment = OrtEnvironment.getEnvironment()
    private var session: OrtSession? = null

    /** What the language model sees of an image, (tokens, width). */
    fun encode(picture: Picture): FloatArray = try {
        val side = picture.side
        val pixels = FloatBuffer.wrap(normalisePixels(Pixels.of(side, side, picture.rgb)))
        OnnxTensor.createTensor(environment, pixels, longArrayOf(1, 3, side.toLong(), side.toLong())).use { input ->
            open().floats("pixel_values", input, OUTPUT)
        }
    } catch (error: OrtException) {
        throw MedgeException(Problem.ENGINE_REFUSES, error.message.orEmpty().take(200), cause = error)
    }

    private fun open(): OrtSession = session ?: OrtSession.SessionOptions().use { options ->
        options.onLittleMemory(threads)
        environment.createSession(path.path, options).also { session = it }
    }

    override fun close() {
        session?.close()
        session = null
    }

    private companion object {
        const val OUTPUT = "image_features"
    }
}

/** One input in, one output out. */
internal fun OrtSession.floats(name: String, input: OnnxTensor, output: String): FloatArray =
    run(mapOf(name to input), setOf(output)).use { result ->
        val values = (result.get(0) as OnnxTensor).floatBuffer
        FloatArray(values.remaining()).also { values.get(it) }
    }

/** As the Python runtime: a second, packed copy of the weights is memory that a phone lacks. */
internal fun OrtSession.SessionOptions.onLittleMemory(threads: Int) {
    setIntraOpNumThreads(threads)
    setCPUArenaAllocator(false)
    addConfigEntry("session.disable_prepacking", "1")
}
