package org.medge.core

import java.io.Closeable
import java.io.File
import java.util.concurrent.CancellationException
import java.util.concurrent.atomic.AtomicBoolean

/** A part of a prompt: a [Token] or a [Picture]. Not sealed: the dexer of CI's build does not know sealed classes. */
interface Item {
    /** Positions that it takes in the context. */
    val length: Int
}

/** One token. */
data class Token(val id: Int) : Item {
    override val length: Int get() = 1
}

/** An image, side × side × 3 bytes; [key] is its SHA-256, by which it is known again. */
class Picture(val rgb: ByteArray, val side: Int, override val length: Int) : Item {
    val key: String = sha256(rgb)

    override fun equals(other: Any?): Boolean = other is Picture && other.key == key

    override fun hashCode(): Int = key.hashCode()
}

/**
 * A language model by llama.cpp, its vision tower by llama.cpp or, where it is an ONNX file, ONNX Runtime: prompt in, tokens out, likeliest
 * first.
 *
 * What two prompts share at their beginning is evaluated once, and an image goes through the tower once. For one thread at a time, except
 * [cancel].
 *
 * @param load loads the JNI library that fits this processor, see [Device.llamaVariant]
 * @throws MedgeException the library, the model or the tower can't be loaded, or memory does not suffice
 */
class Engine(
    model: File,
    eyes: Eyes?,
    private val positions: Int,
    threads: Int,
    batch: Int = Planner.BATCH,
    cache: Cache = Cache.F16,
    load: () -> Unit,
) : Closeable {
    private var handle = 0L
    private var context = 0L
    private var vision = 0L
    private val tower = eyes?.takeIf { it.facts.format == "onnx" }?.let { OnnxTower(it, threads) }
    private val vocabulary: Int
    private val batchSize = batch
    private val evaluated = ArrayList<Item>()
    private val seen = LinkedHashMap<String, FloatArray>()
    private val cancelled = AtomicBoolean()

    /** Whether images can be given. False with llama.cpp's projector at hand means that this build of it has no vision. */
    val sees: Boolean get() = vision > 0 || tower != null

    init {
        try {
            Native.ensure(load)
        } catch (error: UnsatisfiedLinkError) {
            throw MedgeException(Problem.NO_LANGUAGE_ENGINE, error.message.orEmpty(), cause = error)
        }
        Native.setStop(false)
        handle = Native.loadModel(terminated(model))
        if (handle == 0L) throw MedgeException(Problem.ENGINE_REFUSES, Native.reason())
        vocabulary = Native.vocabularySize(handle)
        context = Native.newContext(handle, positions, batch, threads, cache.keys, cache.values)
        if (context == 0L) fail(Problem.LOW_MEMORY)
        if (eyes != null && tower == null) {
            vision = Native.openVision(handle, terminated(eyes.file), threads)
            if (vision == 0L) fail(Problem.ENGINE_REFUSES)
        }
    }

    private fun fail(problem: Problem): Nothing {
        val reason = Native.reason()
        close()
        throw MedgeException(problem, reason)
    }

    /** Ids of a text. [special]: whether it may name control tokens; text from outside must not. */
    fun tokenize(text: String, special: Boolean): List<Int> {
        val bytes = text.toByteArray()
        if (bytes.isEmpty()) return emptyList()
        var ids = IntArray(bytes.size + 8)
        var count = Native.tokenize(handle, bytes, special, ids)
        if (count < 0) {
            ids = IntArray(-count)
            count = Native.tokenize(handle, bytes, special, ids)
        }
        return ids.take(count)
    }

    /** Whether a text would be read as naming a control token. */
    fun holdsControlToken(text: String): Boolean = '<' in text && tokenize(text, special = true).any { Native.isControl(handle, it) }

    /** The bytes of one token. */
    fun piece(token: Int): ByteArray = Native.piece(handle, token)

    /** Let a running [generate] end with a [CancellationException]; from any thread. An image in the tower is waited for. */
    fun cancel() {
        cancelled.set(true)
        Native.setStop(true)
    }

    /** Fewer threads while the phone is hot, more when it has cooled down. */
    fun useThreads(count: Int) = Native.setThreads(context, count)

    /**
     * Give the answer's tokens to [each], without the one that ends it, until it returns false or [limit] is reached.
     *
     * @return whether the model ended the answer itself
     * @throws CancellationException [cancel] was called
     * @throws MedgeException the prompt is longer than the context, holds an image for a model without eyes, or llama.cpp fails
     */
    fun generate(prompt: List<Item>, limit: Int, each: (Int) -> Boolean): Boolean {
        cancelled.set(false)
        Native.setStop(false)
        prefill(prompt)
        var used = evaluated.sumOf { it.length }
        for (count in 1..limit) {
            val token = Native.best(context, vocabulary)
            if (Native.ends(handle, token)) return true
            if (!each(token) || count == limit || used + 1 > positions) return false
            decode(intArrayOf(token))
            evaluated += Token(token)
            used++
        }
        return false
    }

    private fun prefill(prompt: List<Item>) {
        val need = prompt.sumOf { it.length } + 1
        demand(need <= positions, Problem.CONTEXT_FULL) { listOf(need - positions) }
        demand(sees || prompt.none { it is Picture }, Problem.TEXT_ONLY)
        val shared = reusable(prompt)
        rewind(shared)
        var index = shared
        while (index < prompt.size) {
            val item = prompt[index]
            if (item is Picture) {
                look(item)
                evaluated += item
                index++
                continue
            }
            val run = ArrayList<Int>()
            while (index < prompt.size && run.size < batchSize) run += (prompt[index] as? Token ?: break).id.also { index++ }
            decode(run.toIntArray())
            run.forEach { evaluated += Token(it) }
        }
    }

    /** How many leading items are evaluated already and can be kept. */
    private fun reusable(prompt: List<Item>): Int {
        var shared = 0
        while (shared < minOf(evaluated.size, prompt.size) && evaluated[shared] == prompt[shared]) shared++
        if (shared == prompt.size) shared-- // the last has to be evaluated for its logits
        val at = evaluated.take(shared).sumOf { it.length }
        // Windowed layers have forgotten what lies before their window: going back must stay within it.
        if (shared < evaluated.size && at > 0 && Native.oldest(context) > maxOf(0, at - Native.window(handle))) return 0
        return shared
    }

    private fun rewind(shared: Int) {
        val at = evaluated.take(shared).sumOf { it.length }
        if (shared < evaluated.size && at > 0 && !Native.forget(context, at)) {
            val kept = evaluated.take(shared)
            forget()
            prefill(kept)
            return
        }
        if (at == 0) forget() else while (evaluated.size > shared) evaluated.removeAt(evaluated.size - 1)
    }

    /** Drop everything evaluated; what was seen of images is kept. */
    fun forget() {
        Native.forget(context, 0)
        evaluated.clear()
    }

    private fun decode(tokens: IntArray) = checked(Native.evaluate(context, tokens))

    /** What the language model sees of an image, (tokens, width). */
    fun embedding(picture: Picture): FloatArray {
        demand(sees, Problem.TEXT_ONLY)
        val found = seen.getOrPut(picture.key) {
            tower?.encode(picture) ?: Native.encodeImage(vision, handle, picture.rgb, picture.side)
                ?: throw MedgeException(Problem.ANSWER_FAILED, Native.reason())
        }
        while (seen.size > KEPT_IMAGES) seen.remove(seen.keys.first())
        return found
    }

    private fun look(picture: Picture) =
        checked(Native.evaluateImage(context, embedding(picture), picture.length, evaluated.sumOf { it.length }))

    private fun checked(result: Int) {
        if (result == 0 && !cancelled.get()) return
        forget() // llama.cpp's memory and our list must agree
        if (cancelled.get()) throw CancellationException()
        throw MedgeException(Problem.ANSWER_FAILED, if (result == OTHER_SIZE) "the vision tower is another model's" else Native.reason())
    }

    /** Free all native memory; the engine can't be used afterwards. */
    override fun close() {
        tower?.close()
        if (vision > 0) Native.closeVision(vision)
        if (context != 0L) Native.freeContext(context)
        if (handle != 0L) Native.freeModel(handle)
        vision = 0
        context = 0
        handle = 0
    }

    private companion object {
        const val KEPT_IMAGES = 4 // 2.6 MB each for MedGemma 4B
        const val OTHER_SIZE = -2 // medge_llama.c: an image's numbers are not as many as the model takes

        fun terminated(file: File): ByteArray = file.path.toByteArray() + 0
    }
}
