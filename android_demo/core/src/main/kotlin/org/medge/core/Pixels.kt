package org.medge.core

/**
 * A decoded image: height × width × 3 values, row by row, RGB.
 *
 * @property maximum 255 for 8 bits, 65535 for 16; [values] holds them unsigned.
 */
class Pixels(val width: Int, val height: Int, val values: ShortArray, val maximum: Int = 255) {
    init {
        require(values.size == width * height * 3) { "${values.size} values for $width x $height" }
    }

    operator fun get(index: Int): Int = values[index].toInt() and 0xffff

    /** To 8 bits, rounded to nearest (65535 = 257 · 255). */
    fun to8Bit(): Pixels {
        if (maximum == 255) return this
        return Pixels(width, height, ShortArray(values.size) { ((get(it) + 128) / 257).toShort() })
    }

    /** The values of an 8-bit image as bytes. */
    fun bytes(): ByteArray = ByteArray(values.size) { values[it].toByte() }

    companion object {
        const val MOST = 24_000_000L // 144 MB as it lies here: what a large heap has room for

        /** @throws MedgeException too many pixels to decode, or none */
        fun checkSize(width: Int, height: Int) {
            demand(width > 0 && height > 0, Problem.IMAGE_UNREADABLE)
            demand(width.toLong() * height <= MOST, Problem.IMAGE_TOO_LARGE) { listOf(width.toLong() * height / 1_000_000) }
        }

        /** From packed RGB bytes. */
        fun of(width: Int, height: Int, rgb: ByteArray): Pixels =
            Pixels(width, height, ShortArray(rgb.size) { (rgb[it].toInt() and 0xff).toShort() })

        /** From rows of 0xAARRGGBB, as Android's and Java's images give them, so that the whole picture need not lie there as integers too. */
        fun ofArgb(width: Int, height: Int, readRow: (Int, IntArray) -> Unit): Pixels {
            val values = ShortArray(width * height * 3)
            val row = IntArray(width)
            var at = 0
            for (y in 0 until height) {
                readRow(y, row)
                for (colour in row) {
                    values[at++] = (colour shr 16 and 0xff).toShort()
                    values[at++] = (colour shr 8 and 0xff).toShort()
                    values[at++] = (colour and 0xff).toShort()
                }
            }
            return Pixels(width, height, values)
        }
    }
}
