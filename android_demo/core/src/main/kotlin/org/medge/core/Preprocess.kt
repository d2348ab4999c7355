package org.medge.core

import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/**
 * The preprocessing paths that models' publishers show; a bundle names the one it was measured with.
 *
 * They give the same pixels as the Python runtime's `preprocess.py`, to the bit: both follow the kernels of TensorFlow and of Pillow.
 */
enum class Profile(val id: String, private val resizer: (Pixels, Int) -> Pixels) {
    EVAL_TF("eval-tf", { image, side -> tensorFlowBilinear(image.to8Bit(), side) }),
    HF_BICUBIC("hf-bicubic", { image, side -> pillowResize(image.to8Bit(), side, side, Kernel.BICUBIC) }),
    FINETUNE_PIL("finetune-pil", { image, side -> pillowResize(image.to8Bit(), side, side, Kernel.BILINEAR) }),
    SERVING_PAD("serving-pad", { image, side -> pillowResize(squareOf(image), side, side, Kernel.BICUBIC) }),
    CLIP_CROP("clip-crop", { image, side -> shorterEdgeAndCrop(image.to8Bit(), side) }),
    ;

    /** An image of any size to side × side × 3 of 8 bits. */
    fun resize(image: Pixels, side: Int): Pixels = resizer(image, side)

    companion object {
        /** @throws MedgeException there is no such profile: the bundle is newer than this app */
        fun of(id: String): Profile = values().firstOrNull { it.id == id } ?: throw MedgeException(Problem.WRONG_KIND, id)
    }
}

/** Grey levels to numbers, by colour channel: (level / 255 - mean) / std, in double and then rounded, as in Python. */
class Normalisation(mean: List<Double>, std: List<Double>) {
    private val tables = List(3) { channel -> FloatArray(256) { ((it / 255.0 - mean[channel]) / std[channel]).toFloat() } }

    /** Height × width × 3 of 8 bits to 3 × height × width floats. */
    fun of(pixels: Pixels): FloatArray {
        val plane = pixels.width * pixels.height
        val out = FloatArray(3 * plane)
        for (index in 0 until plane) {
            for (channel in 0..2) out[channel * plane + index] = tables[channel][pixels[3 * index + channel]]
        }
        return out
    }
}

/** For each output position the two corners and the weight between them; all in single precision, as TensorFlow. */
private class Corners(size: Int, side: Int) {
    val low = IntArray(side)
    val high = IntArray(side)
    val weight = FloatArray(side)

    init {
        val scale = size.toFloat() / side.toFloat()
        for (index in 0 until side) {
            val position = (index.toFloat() + 0.5f) * scale - 0.5f
            val whole = floor(position)
            low[index] = max(whole, 0f).toInt()
            high[index] = min(whole + 1f, (size - 1).toFloat()).toInt()
            weight[index] = position - whole
        }
    }
}

/** `tf.image.resize` cast to 8 bits: half-pixel centres, no antialiasing, along x first, truncated. */
private fun tensorFlowBilinear(image: Pixels, side: Int): Pixels {
    val rows = Corners(image.height, side)
    val columns = Corners(image.width, side)
    val out = ShortArray(side * side * 3)
    for (y in 0 until side) {
        val top = rows.low[y] * image.width
        val bottom = rows.high[y] * image.width
        for (x in 0 until side) {
            val left = columns.low[x]
            val right = columns.high[x]
            for (channel in 0..2) {
                val a = image[3 * (top + left) + channel].toFloat()
                val b = image[3 * (top + right) + channel].toFloat()
                val c = image[3 * (bottom + left) + channel].toFloat()
                val d = image[3 * (bottom + right) + channel].toFloat()
                val upper = a + (b - a) * columns.weight[x]
                val lower = c + (d - c) * columns.weight[x]
                out[3 * (y * side + x) + channel] = (upper + (lower - upper) * rows.weight[y]).toInt().toShort()
            }
        }
    }
    return Pixels(side, side, out)
}

private enum class Kernel(val support: Double, val weight: (Double) -> Double) {
    BILINEAR(1.0, { x -> max(0.0, 1 - abs(x)) }),
    BICUBIC(2.0, { x -> cubic(abs(x)) }),
}

private fun cubic(x: Double): Double = when { // Keys' kernel with a = -0.5
    x < 1 -> ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1
    x < 2 -> (((x - 5) * x + 8) * x - 4) * -0.5
    else -> 0.0
}

/** Pillow's weights for one direction: for each output position, where they start, and fixed-point values that sum to about 2^22. */
private class Weights(size: Int, side: Int, kernel: Kernel) {
    val first = IntArray(side)
    val values: Array<IntArray>

    init {
        val scale = size.toDouble() / side
        val stretch = max(scale, 1.0)
        val support = kernel.support * stretch
        values = Array(side) { index ->
            val centre = (index + 0.5) * scale
            val from = max((centre - support + 0.5).toInt(), 0)
            val to = min((centre + support + 0.5).toInt(), size)
            val exact = DoubleArray(to - from) { kernel.weight((it + from - centre + 0.5) * (1.0 / stretch)) }
            var sum = 0.0
            for (weight in exact) sum += weight
            first[index] = from
            IntArray(exact.size) {
                val scaled = (if (sum != 0.0) exact[it] / sum else exact[it]) * (1 shl BITS)
                (if (scaled < 0) scaled - 0.5 else scaled + 0.5).toInt()
            }
        }
    }

    companion object {
        const val BITS = 22
    }
}

/**
 * Pillow's `Image.resize` of 8-bit images with antialiasing: one direction, rounded to 8 bits, then the other.
 *
 * Along x first, unless along y saves more than twice as much, as Pillow does from version 13 on.
 */
private fun pillowResize(image: Pixels, columns: Int, rows: Int, kernel: Kernel): Pixels {
    val rowsFirst = image.height > rows && image.height - rows > 2 * max(0, image.width - columns)
    return if (rowsFirst) alongX(alongY(image, rows, kernel), columns, kernel) else alongY(alongX(image, columns, kernel), rows, kernel)
}

/** The shorter edge to [side], then the middle square. */
private fun shorterEdgeAndCrop(image: Pixels, side: Int): Pixels {
    val shorter = min(image.width, image.height)
    val columns = (side.toDouble() * image.width / shorter).toInt()
    val rows = (side.toDouble() * image.height / shorter).toInt()
    Pixels.checkSize(columns, rows)
    val resized = pillowResize(image, columns, rows, Kernel.BICUBIC)
    val left = (columns - side) / 2
    val top = (rows - side) / 2
    val out = ShortArray(side * side * 3)
    for (y in 0 until side) {
        for (x in 0 until side * 3) out[y * side * 3 + x] = resized[((y + top) * columns + left) * 3 + x].toShort()
    }
    return Pixels(side, side, out)
}

private fun alongX(image: Pixels, side: Int, kernel: Kernel): Pixels {
    if (image.width == side) return image
    val weights = Weights(image.width, side, kernel)
    val out = ShortArray(image.height * side * 3)
    for (y in 0 until image.height) {
        for (x in 0 until side) {
            for (channel in 0..2) {
                out[3 * (y * side + x) + channel] = mix(image, weights.values[x], 3 * (y * image.width + weights.first[x]) + channel, 3)
            }
        }
    }
    return Pixels(side, image.height, out)
}

private fun alongY(image: Pixels, side: Int, kernel: Kernel): Pixels {
    if (image.height == side) return image
    val weights = Weights(image.height, side, kernel)
    val row = 3 * image.width
    val out = ShortArray(side * row)
    for (y in 0 until side) {
        for (x in 0 until row) out[y * row + x] = mix(image, weights.values[y], weights.first[y] * row + x, row)
    }
    return Pixels(image.width, side, out)
}

private fun mix(image: Pixels, weights: IntArray, start: Int, step: Int): Short {
    var sum = 1 shl (Weights.BITS - 1)
    for (index in weights.indices) sum += image[start + index * step] * weights[index]
    return (sum shr Weights.BITS).coerceIn(0, 255).toShort()
}

/** Divided by the type's maximum, zeros around it to a centred square, back to 8 bits: rounded from 8 bits, truncated from 16. */
private fun squareOf(image: Pixels): Pixels {
    val size = max(image.width, image.height)
    val top = (size - image.height) / 2
    val left = (size - image.width) / 2
    val out = ShortArray(size * size * 3)
    for (y in 0 until image.height) {
        for (x in 0 until image.width * 3) {
            val scaled = image[y * image.width * 3 + x].toFloat() / image.maximum.toFloat() * 255f
            val eight = if (image.maximum == 255) round(scaled.toDouble()) else floor(scaled.toDouble())
            out[((y + top) * size + left) * 3 + x] = eight.toInt().toShort()
        }
    }
    return Pixels(size, size, out)
}
