package org.medge.core

import kotlin.math.max
import kotlin.math.min

/**
 * A phone, as far as it matters.
 *
 * @property memoryTotal,memoryFree bytes
 * @property features of the processor, as /proc/cpuinfo names them
 * @property storage bytes a second that it reads from its storage, see [Storage.speed]; 0 where nobody has measured it
 */
class Device(
    val memoryTotal: Long, val memoryFree: Long, val cores: Int, val abi: String, val features: Set<String>, val storage: Long = 0,
) {
    /** Bytes that may be used: the system and the app the user comes back to need the rest. */
    val room: Long get() = (memoryFree * RESERVE).toLong()

    /**
     * The library of llama.cpp that is fast on this processor and runs on it, or null where this build has none.
     *
     * i8mm and dotprod are features of the instruction set, not of a model of phone: the kernel says which there are.
     */
    val llamaVariant: String?
        get() = when {
            abi == "arm64-v8a" && "asimddp" in features && "i8mm" in features -> "v8_2_dotprod_i8mm"
            abi == "arm64-v8a" && "asimddp" in features -> "v8_2_dotprod"
            abi == "arm64-v8a" -> "v8"
            abi == "x86_64" -> "x86_64"
            else -> null
        }

    /** Threads for a model: phones mix fast and slow cores, and a slow one holds up all others. */
    val threads: Int get() = if (cores >= 8) 4 else max(1, min(cores, 4))

    companion object {
        const val RESERVE = 0.9

        /** Feature names from the text of /proc/cpuinfo. */
        fun featuresOf(cpuinfo: String): Set<String> = cpuinfo.lineSequence()
            .filter { it.startsWith("Features") || it.startsWith("flags") }
            .flatMap { it.substringAfter(':').trim().split(' ').asSequence() }.filter { it.isNotEmpty() }.map { it.lowercase() }.toSet()
    }
}

/**
 * Memory that a bundle takes, in bytes.
 *
 * @property mapped of [weights], what can stay in its file: pages that the system may drop and read again
 */
class Need(val weights: Long, val cache: Long, val working: Long, val fixed: Long, val mapped: Long = 0) {
    val total: Long get() = weights + cache + working + fixed
}

/**
 * What keys and values of a context are kept in, as in the Python runtime's `cache.py`: docs/results/cache.md has what fewer bits cost.
 *
 * @property keys,values ggml's numbers of the types
 * @property bits of a key and a value together
 */
enum class Cache(val keys: Int, val values: Int, private val bits: Double, private val block: Int) {
    F16(1, 1, 32.0, 1),
    Q8_0(8, 8, 17.0, 32);

    /** Whether a model's heads can be kept so. */
    fun takes(facts: GeneratorFacts): Boolean = facts.headSize % block == 0

    /** Memory of so many numbers of keys and as many of values. */
    fun bytes(numbers: Long): Long = (numbers * bits / 8).toLong()
}

/** How a bundle runs on a device. */
enum class Fit { IN_MEMORY, FROM_STORAGE, NOT_AT_ALL }

/** What a bundle would take on a device: [context] is 0 for an encoder. */
class Plan(
    val name: String, val need: Need, val context: Int, val room: Long, val cache: Cache = Cache.F16, private val storage: Long = 0,
) {
    val fits: Boolean get() = fit == Fit.IN_MEMORY

    /** From storage it runs where what can't be dropped leaves the weights a share of room for which the reading was measured. */
    val fit: Fit
        get() = when {
            need.total <= room -> Fit.IN_MEMORY
            need.mapped > 0 && share >= Storage.LEAST_SHARE -> Fit.FROM_STORAGE
            else -> Fit.NOT_AT_ALL
        }

    /** Room for the weights that can stay in their file, as a share of them. */
    private val share: Double get() = (room - (need.total - need.mapped)).toDouble() / need.mapped

    /** Bytes that are read from storage again for each token. */
    val readAgain: Long get() = if (fit == Fit.FROM_STORAGE) (need.mapped * Storage.readAgain(share)).toLong() else 0

    /** Seconds by which that makes each token longer; null where the speed of this phone's storage is not known. */
    val secondsAToken: Double? get() = if (storage > 0) readAgain * Storage.SLOWER / storage else null

    /** @throws MedgeException it does not run here; says what it needs and what there is */
    fun checked(): Plan {
        demand(fit != Fit.NOT_AT_ALL, Problem.TOO_LARGE) { listOf(name, need.total / 1_000_000, room / 1_000_000) }
        return this
    }
}

/** Chooses what runs on a phone. The formulas for language models are those of the Python runtime's `planner.py`, with smaller batches. */
object Planner {
    const val LONGEST_CONTEXT = 4096 // an image, a conversation and room to answer; a phone reads a longer one for minutes
    const val LEAST_CONTEXT = 512
    const val BATCH = 256 // an image's tokens see each other, so they must fit; every token more costs a row of the vocabulary
    private const val MULTIPLE = 256 // llama.cpp makes the room of windowed layers a multiple of this
    private const val FIXED = 160L shl 20
    private const val VISION_WIDTH = 1152L
    private const val VISION_ROWS = 12 // of that width for each patch, in llama.cpp's tower
    private const val ONNX_ROWS = 45 // and in ONNX Runtime's

    /**
     * What a bundle takes on this device, with the longest context that fits; the cache is in eight bits where sixteen would shorten it.
     * Where none fits, with the longest that runs from storage, and the cache that leaves less to read again.
     */
    fun plan(manifest: Manifest, device: Device): Plan {
        val generator = manifest.generator ?: return Plan(manifest.name, encoderNeed(manifest), 0, device.room)
        val language = manifest.files.filter { it.role == "language" }.sumOf { it.bytes }
        val weights = language + manifest.files.filter { it.role.substringBefore('.') == "projector" }.sumOf { it.bytes }
        val onnx = manifest.towers["projector"]?.format == "onnx"
        val plans = contexts(generator).flatMap { context ->
            Cache.values().filter { it.takes(generator) }.map {
                val need = need(generator, weights, context, onnx, it, language)
                Plan(manifest.name, need, context, device.room, it, device.storage)
            }
        }
        plans.firstOrNull { it.fits }?.let { return it }
        val stored = plans.filter { it.fit == Fit.FROM_STORAGE }
        return stored.filter { it.context == stored[0].context }.minByOrNull { it.readAgain } ?: plans.last()
    }

    /** Contexts to try, the longest first. */
    private fun contexts(facts: GeneratorFacts): List<Int> =
        generateSequence(min(LONGEST_CONTEXT, facts.contextLength)) { if (it <= LEAST_CONTEXT) null else max(LEAST_CONTEXT, roundUp(it / 2)) }.toList()

    /**
     * Of several bundles of one kind, the one to use: the largest that fits, since among recipes of one model the larger is the nearer to
     * the original. Null where none fits.
     */
    fun choose(manifests: List<Manifest>, device: Device): Manifest? =
        manifests.filter { plan(it, device).fits }.maxByOrNull { it.bytes }

    /**
     * Weights, and of the vision tower the greater of one head's attention scores in two copies and a block's hidden values; each tower is
     * closed before the other is opened. benchmarks/android.py compares with the measured peak at full size.
     */
    private fun encoderNeed(manifest: Manifest): Need {
        val facts = manifest.encoder!!
        val towers = manifest.towers.keys.map { tower -> manifest.files.filter { it.role == tower || it.role == "$tower.data" }.sumOf { it.bytes } }
        val patches = (facts.imageSize.toLong() / facts.patchSize).let { it * it }
        val heads = max(1L, facts.embeddingSize.toLong() / 64)
        val working = patches * patches * heads * 4 * 2 + patches * facts.embeddingSize * 4 * 8
        return Need(towers.maxOrNull() ?: 0, 0, working, FIXED)
    }

    /**
     * What a language model takes with room for [context] tokens.
     *
     * As `need` in the Python runtime's planner, but for the logits: the llama.cpp that phones get makes room for a row of the vocabulary
     * for every token of a batch. The tower's weights are read into memory, the language model's stay [mapped].
     */
    fun need(
        facts: GeneratorFacts, weights: Long, context: Int, onnx: Boolean = false, cache: Cache = Cache.F16, mapped: Long = 0,
    ): Need {
        val whole = if (facts.globalEvery > 0) facts.layers / facts.globalEvery else facts.layers
        val window = if (facts.window > 0) ring(facts.window, BATCH, context) else context
        val positions = whole.toLong() * context + (facts.layers - whole).toLong() * window
        val kept = cache.bytes(positions * facts.kvHeads * facts.headSize)
        val patches = if (facts.imageTokens > 0) (facts.imageSize.toLong() / facts.patchSize).let { it * it } else 0L
        val language = BATCH.toLong() * (facts.width.toLong() * 4 * 12 + facts.vocabulary.toLong() * 4)
        if (onnx) return Need(weights, kept, language + patches * VISION_WIDTH * 4 * ONNX_ROWS, FIXED, mapped)
        val vision = patches * VISION_WIDTH * 4 * VISION_ROWS + patches * patches * 4
        return Need(weights, kept, max(language, vision), FIXED, mapped)
    }

    /** Positions that windowed layers keep, in a ring. */
    internal fun ring(window: Int, batch: Int, context: Int): Int = min(context, roundUp(window + batch))

    private fun roundUp(value: Int): Int = (value + MULTIPLE - 1) / MULTIPLE * MULTIPLE
}

/** What a trial measured of one way to run the vision tower: seconds for an image, and the least cosine with the bundle's golden ones. */
class Measured(val provider: String, val seconds: Double, val cosine: Float)

/** Picks the execution provider that a trial found worth it. */
object ProviderChoice {
    const val CPU = "cpu"
    const val WORTH = 0.9 // of the CPU's time; below that the noise of a warm phone decides

    /** The fastest of those that compute what the bundle promises and save a tenth of the time, else the CPU. */
    fun choose(measured: List<Measured>, leastCosine: Double): String {
        val cpu = measured.first { it.provider == CPU }
        return measured.filter { it.cosine >= leastCosine && it.seconds <= cpu.seconds * WORTH }.minByOrNull { it.seconds }?.provider ?: CPU
    }
}
