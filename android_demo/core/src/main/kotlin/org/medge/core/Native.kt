package org.medge.core

/** llama.cpp's functions that the phone needs; `app/src/main/cpp/medge_llama.c` implements them. [Engine] is what to use. */
internal object Native {
    external fun start()

    external fun message(): ByteArray

    external fun setStop(value: Boolean)

    external fun loadModel(path: ByteArray, fromStorage: Boolean): Long

    external fun freeModel(model: Long)

    external fun newContext(model: Long, positions: Int, batch: Int, threads: Int, keys: Int, values: Int): Long

    external fun freeContext(context: Long)

    external fun setThreads(context: Long, threads: Int)

    external fun vocabularySize(model: Long): Int

    external fun tokenize(model: Long, text: ByteArray, special: Boolean, ids: IntArray): Int

    external fun piece(model: Long, token: Int): ByteArray

    external fun ends(model: Long, token: Int): Boolean

    external fun isControl(model: Long, token: Int): Boolean

    external fun evaluate(context: Long, tokens: IntArray): Int

    external fun best(context: Long, vocabulary: Int): Int

    external fun forget(context: Long, from: Int): Boolean

    external fun oldest(context: Long): Int

    external fun window(model: Long): Int

    external fun openVision(model: Long, path: ByteArray, threads: Int): Long

    external fun closeVision(vision: Long)

    external fun encodeImage(vision: Long, model: Long, rgb: ByteArray, side: Int): FloatArray?

    external fun evaluateImage(context: Long, embedding: FloatArray, count: Int, position: Int): Int

    private var loaded = false

    /** Load the JNI library by what [load] does, once in a process. */
    @Synchronized
    fun ensure(load: () -> Unit) {
        if (loaded) return
        load()
        start()
        loaded = true
    }

    /** What llama.cpp last complained of, in one line. */
    fun reason(): String = String(message()).trim().replace('\n', ' ').take(300)
}
