package org.medge.core

import java.io.Closeable
import java.io.File
import java.util.concurrent.CancellationException
import java.util.concurrent.atomic.AtomicBoolean

/**
 * A language model by llama.cpp, its vision tower by llama.cpp or, where it is an ONNX file, ONNX Runtime: prompt in, tokens out, likeliest
 * first.
 *
 * What two prompts share at their beginning is evaluated once, without a change to any answer (see [cuts]), and an image goes through the
 * tower once. For one thread at a time, except [cancel].
 *
 * @param fromStorage leave all weights in their file, for the system to drop and read again, see [Plan.fit]
 * @param load loads the JNI library that fits this processor, see [Device.llamaVariant]
 * @throws MedgeException the library, the model or the tower can't be loaded, or memory does not suffice
 */
class Engine(
    model: File,
    eyes: Eyes?,
    private val positions: Int,
    threads: Int,
    private val batch: Int = Planner.BATCH,
    cache: Cache = Cache.F16,
    fromStorage: Boolean = false,
    load: () -> Unit,
) : Closeable {
    private var handle = 0L
    private var context = 0L
    private var vision = 0L
    private val tower = eyes?.takeIf { it.facts.format == "onnx" }?.let { OnnxTower(it, threads) }
    private val vocabulary: Int
    private val step = minOf(STEP, batch)
    private val evaluated = ArrayList<Item>()
    private val steps = LinkedHashSet<Int>() // items up to which `evaluated` was evaluated in a prompt's steps
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
        handle = Native.loadModel(terminated(model), fromStorage)
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
        advance(prompt.drop(shared))
    }

    /** How many leading items are evaluated already, in the steps in which a fresh start would do it. */
    private fun reusable(prompt: List<Item>): Int {
        val same = evaluated.zip(prompt).takeWhile { (mine, wanted) -> mine == wanted }.size
        val most = minOf(same, prompt.size - 1) // the last has to be evaluated for its logits
        // An answer's tokens were evaluated one by one, and end no step.
        val shared = steps.intersect(cuts(prompt, step).toSet()).filter { it <= most }.maxOrNull() ?: 0
        val at = evaluated.take(shared).sumOf { it.length }
        val end = evaluated.sumOf { it.length }
        val window = Native.window(handle)
        if (window > 0 && at in 1 until end) {
            // Windowed layers have forgotten what lies before their window. Going back is possible only as far as the window before the
            // new end is still there, and in the same lap of their ring: sums then have the order that they have after a fresh start.
            val ring = Planner.ring(window, batch, positions)
            if (Native.oldest(context) > maxOf(0, at - window) || at / ring != (end - 1) / ring) return 0
        }
        return shared
    }

    private fun rewind(shared: Int) {
        val at = evaluated.take(shared).sumOf { it.length }
        if (shared == evaluated.size) return
        if (at > 0 && Native.forget(context, at)) {
            while (evaluated.size > shared) evaluated.removeAt(evaluated.size - 1)
            steps.removeAll { it > shared }
            return
        }
        val kept = evaluated.take(shared)
        forget()
        advance(kept) // llama.cpp refused to go back part of the way
    }

    private fun advance(items: List<Item>) {
        val start = evaluated.size
        var begin = 0
        for (end in cuts(items, step)) {
            val part = items.subList(begin, end)
            (part[0] as? Picture)?.let(::look) ?: decode(IntArray(part.size) { (part[it] as Token).id })
            evaluated += part
            steps += start + end
            begin = end
        }
    }

    /** Drop everything evaluated; what was seen of images is kept. */
    fun forget() {
        Native.forget(context, 0)
        evaluated.clear()
        steps.clear()
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
