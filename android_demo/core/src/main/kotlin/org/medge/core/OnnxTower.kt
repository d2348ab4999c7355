package org.medge.core

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import java.io.Closeable
import java.io.File
import java.nio.FloatBuffer

/** A language model's vision tower and projector: the file, how it is called, and how pixels become its input. */
class Eyes(val file: File, val facts: TowerFacts, val normalisation: Normalisation)

/**
 * A language model's vision tower and projector in ONNX Runtime, for bundles that merge similar patches: llama.cpp's own tower can't.
 *
 * Opened when the first image comes, so that questions about text don't pay for it.
 */
internal class OnnxTower(private val eyes: Eyes, private val threads: Int) : Closeable {
    private val environment: OrtEnvironment = OrtEnvironment.getEnvironment()
    private var session: OrtSession? = null

    /** What the language model sees of an image, (tokens, width). */
    fun encode(picture: Picture): FloatArray = try {
        val side = picture.side
        val pixels = FloatBuffer.wrap(eyes.normalisation.of(Pixels.of(side, side, picture.rgb)))
        val shape = longArrayOf(1, 3, side.toLong(), side.toLong())
        open().floats(eyes.facts) { OnnxTensor.createTensor(environment, pixels, shape) }
    } catch (error: OrtException) {
        throw MedgeException(Problem.ENGINE_REFUSES, error.message.orEmpty().take(200), cause = error)
    }

    private fun open(): OrtSession = session ?: OrtSession.SessionOptions().use { options ->
        options.onLittleMemory(threads)
        environment.createSession(eyes.file.path, options).also { session = it }
    }

    override fun close() {
        session?.close()
        session = null
    }
}

/** A tower's output; [tensor] makes each of its inputs, by name. */
internal fun OrtSession.floats(facts: TowerFacts, tensor: (String) -> OnnxTensor): FloatArray {
    val inputs = facts.inputs.associateWith(tensor)
    try {
        return run(inputs, setOf(facts.output)).use { result ->
            val values = (result.get(0) as OnnxTensor).floatBuffer
            FloatArray(values.remaining()).also { values.get(it) }
        }
    } finally {
        inputs.values.forEach(OnnxTensor::close)
    }
}

/** As the Python runtime: a second, packed copy of the weights is memory that a phone lacks. */
internal fun OrtSession.SessionOptions.onLittleMemory(threads: Int) {
    setIntraOpNumThreads(threads)
    setCPUArenaAllocator(false)
    addConfigEntry("session.disable_prepacking", "1")
}
