package org.medge.core

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import java.io.File
import kotlin.math.exp
import kotlin.math.sqrt

/** What is said of a label; [NOT_CALIBRATED] where no image of this kind of picture had it. [id] is the word of other languages. */
enum class Says(val id: String) {
    PRESENT("present"), ABSENT("absent"), UNCERTAIN("uncertain"), NOT_CALIBRATED("not calibrated")
}

/** What is said of one label, and its calibrated probability, null where it is not calibrated. */
class Finding(val label: String, val says: Says, val probability: Double?)

/**
 * What calibrated scores say of one image.
 *
 * If it is [unlike] anything that the bundle was calibrated on, every label that is calibrated is uncertain. [distance] to the nearest
 * centre is in standard deviations; [kind] of picture is "" where kinds are not told apart. [findings] are in the labels' order, and
 * empty of other labels than those that were calibrated. The true label is among the [likely] ones as often as was asked for; null where
 * that was not calibrated.
 */
class Decision(val unlike: Boolean, val distance: Double, val kind: String, val findings: List<Finding>, val likely: List<String>?)

/**
 * How a bundle's scores are calibrated, as `medge calibrate-scores` fitted it: the arithmetic of Python's `runtime/decisions`, in double
 * precision. `docs/reference/bundle-format.md` says it in words.
 */
class ScoreCalibration private constructor(
    private val isOne: Boolean,
    private val labels: List<String>,
    private val kinds: List<KindOfPicture>,
    private val kindOfCentre: List<Int>,
    private val limit: Double?,
    private val fingerprint: String,
    private val labelsHash: String,
    private val whitening: Array<FloatArray>,
    private val centres: Array<FloatArray>,
) {
    private class Point(val absentBelow: Double?, val presentAbove: Double?)

    private class KindOfPicture(
        val name: String, val slopes: List<Double>, val offsets: List<Double>, val points: List<Point?>, val likelyFrom: Double?,
    )

    /**
     * Decide on an image.
     *
     * @param embedding of unit length
     * @param logits scale · cosine + bias of the calibrated labels; null where the image is scored for other labels
     */
    fun decide(embedding: FloatArray, logits: DoubleArray?): Decision {
        val white = DoubleArray(whitening.size) { row -> embedding.indices.sumOf { whitening[row][it].toDouble() * embedding[it] } }
        val squares = centres.map { centre -> white.indices.sumOf { (white[it] - centre[it]) * (white[it] - centre[it]) } }
        val nearest = squares.indices.minByOrNull { squares[it] }!!
        val distance = sqrt(squares[nearest])
        val kind = kinds[kindOfCentre[nearest]]
        val unlike = limit != null && distance > limit
        if (logits == null) return Decision(unlike, distance, kind.name, emptyList(), null)
        val shares = probabilities(kind, logits)
        val findings = labels.indices.map { index ->
            val point = kind.points[index]
            val says = if (point == null) Says.NOT_CALIBRATED else said(point, shares[index])
            val told = if (unlike && says != Says.NOT_CALIBRATED) Says.UNCERTAIN else says
            Finding(labels[index], told, if (point == null) null else shares[index])
        }
        val likely = kind.likelyFrom?.let { from ->
            labels.filterIndexed { index, _ -> kind.points[index] != null && (unlike || shares[index] >= from) }
        }
        return Decision(unlike, distance, kind.name, findings, likely)
    }

    private fun probabilities(kind: KindOfPicture, logits: DoubleArray): DoubleArray {
        val scaled = DoubleArray(labels.size) { logits[it] * kind.slopes[it] + kind.offsets[it] }
        if (!isOne) return DoubleArray(scaled.size) { 1 / (1 + exp(-scaled[it])) }
        for (index in scaled.indices) if (kind.points[index] == null) scaled[index] = Double.NEGATIVE_INFINITY // takes nothing
        val most = scaled.maxOrNull()!!
        val powers = DoubleArray(scaled.size) { exp(scaled[it] - most) }
        val sum = powers.sum()
        return DoubleArray(scaled.size) { powers[it] / sum }
    }

    private fun said(point: Point, share: Double): Says = when {
        point.absentBelow == null && point.presentAbove == null -> Says.NOT_CALIBRATED
        point.absentBelow != null && share < point.absentBelow -> Says.ABSENT
        point.presentAbove != null && share > point.presentAbove -> Says.PRESENT
        else -> Says.UNCERTAIN
    }

    companion object {
        private const val FORMAT = 1
        private val FORMS = listOf("one label", "findings")

        /**
         * The calibration of an encoder's bundle, or null where its scores are not calibrated.
         *
         * @throws MedgeException damaged, or fitted to the scores of another bundle
         */
        fun of(bundle: Bundle): ScoreCalibration? {
            val manifest = bundle.manifest
            val facts = manifest.encoder ?: return null
            val calibration = load(bundle.path("scores") ?: return null, facts.embeddingSize)
            val belongs = calibration.fingerprint == manifest.fingerprint && calibration.labelsHash == manifest.file("labels")?.sha256
            demand(belongs, Problem.SCORES_OF_OTHER_BUNDLE)
            return calibration
        }

        /**
         * Read a file of scores.
         *
         * @param size numbers of an embedding
         * @throws MedgeException damaged, or of another format
         */
        internal fun load(file: File, size: Int): ScoreCalibration {
            val tensors = SafeTensors(file)
            try {
                require(tensors.names == setOf("whitening", "centres")) { "${tensors.names}" }
                val body = parseJson(tensors.metadata.getValue("facts")) as JsonObject
                return read(body, matrix(tensors["whitening"], size), matrix(tensors["centres"], size))
            } catch (error: RuntimeException) { // a field is missing, of another form, or contradicts another one
                throw MedgeException(Problem.TENSORS_DAMAGED, file.name, cause = error)
            }
        }

        private fun matrix(tensor: SafeTensors.Tensor, size: Int): Array<FloatArray> {
            require(tensor.shape.size == 2 && tensor.shape[1] == size) { "${tensor.shape}" }
            return rowsOf(tensor).also { rows -> require(rows.all { row -> row.none { it.isNaN() || it.isInfinite() } }) { "not finite" } }
        }

        private fun read(body: JsonObject, whitening: Array<FloatArray>, centres: Array<FloatArray>): ScoreCalibration {
            val calibration = ScoreCalibration(
                isOne = body.text("form") == FORMS[0],
                labels = body.list("labels")!!.map { it.asString },
                kinds = body.list("kinds")!!.map { kind(it as JsonObject) },
                kindOfCentre = body.list("centres")!!.map { it.asInt },
                limit = body.orNull("limit"),
                fingerprint = body.text("fingerprint")!!,
                labelsHash = body.text("labels_sha256")!!,
                whitening = whitening,
                centres = centres,
            )
            require(body.int("format") == FORMAT && body.text("form") in FORMS) { "another format" }
            return calibration.also { it.check() }
        }

        private fun kind(body: JsonObject) = KindOfPicture(
            name = body.text("name")!!,
            slopes = body.list("slopes")!!.map { it.asDouble },
            offsets = body.list("offsets")!!.map { it.asDouble },
            points = points(body.list("points")!!),
            likelyFrom = body.orNull("likely_from"),
        )

        private fun points(body: JsonArray): List<Point?> =
            body.map { if (it.isJsonNull) null else Point((it as JsonObject).orNull("absent_below"), it.orNull("present_above")) }

        /** A number, or null where the file says null; a field that is missing is an error. */
        private fun JsonObject.orNull(name: String): Double? = if (get(name)!!.isJsonNull) null else number(name)!!
    }

    private fun check() {
        require(labels.isNotEmpty() && kinds.isNotEmpty() && kindOfCentre.size == centres.size) { "labels, kinds or centres" }
        require(whitening.size == whitening[0].size) { "no square" }
        require(kindOfCentre.all { it in kinds.indices }) { "a centre is of a kind that is not there" }
        require(limit == null || limit in 0.0..1e9) { "limit" }
        for (kind in kinds) {
            require(listOf(kind.slopes, kind.offsets, kind.points).all { it.size == labels.size }) { "not as many values as labels" }
            require(kind.slopes.all { it > 0 && it <= 1000 } && kind.offsets.all { it in -1e6..1e6 }) { "slopes or offsets" }
            val points = kind.points.filterNotNull()
            val thresholds = points.flatMap { listOf(it.absentBelow, it.presentAbove) } + kind.likelyFrom
            require(thresholds.filterNotNull().all { it in 0.0..1.0 }) { "a threshold is no share" }
            require(points.all { it.absentBelow == null || it.presentAbove == null || it.absentBelow <= it.presentAbove }) { "crossed" }
            require(!isOne || points.isNotEmpty()) { "a kind has no label" }
        }
    }
}
