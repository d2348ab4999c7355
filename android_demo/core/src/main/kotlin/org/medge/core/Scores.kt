package org.medge.core

import kotlin.math.exp
import kotlin.math.max
import kotlin.math.sqrt

/** Labels with their prompts and embeddings: one vector of unit length a label, in the prompts' order. */
class LabelBank(val prompts: Map<String, List<String>>, val embeddings: Array<FloatArray>) {
    val names: List<String> = prompts.keys.toList()

    companion object {
        /** What a label without prompts of its own is asked with; the same as in Python. */
        val DEFAULT_TEMPLATES = listOf("{}", "an image of {}", "a medical image showing {}")

        /** @throws MedgeException damaged */
        fun load(file: java.io.File): LabelBank {
            val tensors = SafeTensors(file)
            val body = parseJson(tensors.metadata["prompts"].orEmpty()) as? com.google.gson.JsonObject
                ?: throw MedgeException(Problem.TENSORS_DAMAGED, file.name)
            val prompts = body.entrySet().associate { (name, value) -> name to value.asJsonArray.map { it.asString } }
            return LabelBank(prompts, rowsOf(tensors["embeddings"]))
        }

        /** Labels as a person types them, one a line; blank lines and repetitions are left out. */
        fun promptsOf(text: String): Map<String, List<String>> =
            text.lines().map { it.trim() }.filter { it.isNotEmpty() }.distinct()
                .associateWith { label -> DEFAULT_TEMPLATES.map { it.replace("{}", label) } }

        /**
         * A bank from prompts: each label's unit-length embeddings are averaged, and the mean brought to unit length.
         *
         * @throws MedgeException no label
         */
        fun build(prompts: Map<String, List<String>>, embed: (String) -> FloatArray): LabelBank {
            demand(prompts.isNotEmpty(), Problem.NO_LABELS)
            return LabelBank(prompts, prompts.values.map { group -> unitLength(mean(group.map(embed))) }.toTypedArray())
        }

        private fun mean(vectors: List<FloatArray>): FloatArray {
            val sum = FloatArray(vectors[0].size)
            for (vector in vectors) for (index in sum.indices) sum[index] += vector[index]
            for (index in sum.indices) sum[index] /= vectors.size
            return sum
        }
    }
}

/**
 * The score of one label. [softmax] answers "which of these?", null of a single label, which would be certain whatever the image
 * shows; [sigmoid] answers "does this hold?", null of a model that can't say that.
 */
class Score(val label: String, val cosine: Float, val softmax: Float?, val sigmoid: Float?)

/** Scores of an image embedding against a bank, in the labels' order. */
fun score(embedding: FloatArray, bank: LabelBank, facts: EncoderFacts): List<Score> {
    val cosines = FloatArray(bank.names.size) { dot(embedding, bank.embeddings[it]) }
    val logits = logits(cosines, facts)
    val soft = if (logits.size > 1) softmax(logits) else null
    return bank.names.indices.map { Score(bank.names[it], cosines[it], soft?.get(it), if (facts.sigmoid) sigmoid(logits[it]) else null) }
}

/** What probabilities are made of: scale · cosine + bias. */
internal fun logits(cosines: FloatArray, facts: EncoderFacts) =
    DoubleArray(cosines.size) { cosines[it].toDouble() * facts.logitScale + facts.logitBias }

/** Softmax, in double, to single precision. */
fun softmax(logits: DoubleArray): FloatArray {
    val most = logits.maxOrNull() ?: return FloatArray(0)
    val powers = DoubleArray(logits.size) { exp(logits[it] - most) }
    val sum = powers.sum()
    return FloatArray(logits.size) { (powers[it] / sum).toFloat() }
}

/** The logistic function, in double, to single precision. */
fun sigmoid(logit: Double): Float = (1 / (1 + exp(-logit.coerceIn(-700.0, 700.0)))).toFloat()

/** To unit length; a zero vector stays zero. */
fun unitLength(vector: FloatArray): FloatArray {
    val length = max(sqrt(dot(vector, vector)), 1e-12f)
    return FloatArray(vector.size) { vector[it] / length }
}

/** Inner product, summed in double. */
fun dot(a: FloatArray, b: FloatArray): Float {
    require(a.size == b.size) { "${a.size} and ${b.size} values" }
    var sum = 0.0
    for (index in a.indices) sum += a[index].toDouble() * b[index]
    return sum.toFloat()
}

/** Rows of a two-dimensional F32 tensor. */
internal fun rowsOf(tensor: SafeTensors.Tensor): Array<FloatArray> {
    val width = tensor.shape.last()
    val all = tensor.floats()
    return Array(all.size / max(width, 1)) { all.copyOfRange(it * width, (it + 1) * width) }
}

/**
 * A linear probe fitted with `medge probe fit`: logits = embedding · weight + bias, for classes that words don't describe well.
 */
class Probe(val labels: List<String>, private val weight: Array<FloatArray>, private val bias: FloatArray) {
    /** Probabilities of the classes. */
    fun predict(embedding: FloatArray): FloatArray =
        softmax(DoubleArray(labels.size) { (dot(embedding, weight[it]) + bias[it]).toDouble() })

    companion object {
        /** @throws MedgeException damaged, changed, or of a bundle with another fingerprint */
        fun load(file: java.io.File, fingerprint: String): Probe {
            val tensors = SafeTensors(file)
            val metadata = tensors.metadata
            val whole = sha256(tensors["bias"].raw() + tensors["weight"].raw()) // in the order of their names
            demand(metadata["sha256"] == whole, Problem.FILE_CHANGED) { listOf(file.name) }
            demand(metadata["fingerprint"] == fingerprint, Problem.PROBE_OF_OTHER_BUNDLE)
            val labels = (parseJson(metadata["labels"].orEmpty()) as? com.google.gson.JsonArray)?.map { it.asString }
                ?: throw MedgeException(Problem.TENSORS_DAMAGED, file.name)
            return Probe(labels, rowsOf(tensors["weight"]), tensors["bias"].floats())
        }
    }
}
