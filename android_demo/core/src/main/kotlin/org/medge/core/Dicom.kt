package org.medge.core

import java.io.EOFException
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlin.math.exp
import kotlin.math.round

/** Decodes a JPEG to RGB; Android and the desktop each bring their own. Null where the bytes are none. */
fun interface JpegDecoder {
    fun decode(bytes: ByteArray): Pixels?
}

/**
 * The part of DICOM that phones meet most: uncompressed (little-endian) and JPEG baseline; grey with rescale, window and MONOCHROME1, RGB
 * and YBR_FULL. Everything else is refused in words, never shown wrongly.
 */
class Dicom private constructor(private val data: ByteBuffer) {
    private val elements = HashMap<Int, Element>()
    private var implicit = false
    private lateinit var syntax: String

    private class Element(val from: Int, val length: Int)

    /**
     * One frame as it would be shown, 8 bits.
     *
     * @param frame from 0; the middle one where null
     * @throws MedgeException not a picture, damaged, or not of the subset
     */
    fun picture(frame: Int? = null, jpeg: JpegDecoder): Pixels {
        readHeader()
        checkPicture()
        val frames = (number(NUMBER_OF_FRAMES) ?: 1.0).toInt().coerceAtLeast(1)
        val chosen = frame ?: (frames / 2)
        demand(chosen in 0 until frames, Problem.DICOM_DAMAGED) { listOf("frame $chosen of $frames") }
        val photometric = text(PHOTOMETRIC)!!
        val rows = int(ROWS)!!
        val columns = int(COLUMNS)!!
        Pixels.checkSize(columns, rows)
        if (syntax == JPEG_BASELINE) return fromJpeg(jpeg, photometric, columns, rows, chosen, frames)
        val samples = int(SAMPLES) ?: 1
        val grey = photometric in GREY && samples == 1
        val colour = photometric in setOf("RGB", "YBR_FULL") && samples == 3 && int(BITS_ALLOCATED) == 8
        demand(grey || colour, Problem.DICOM_UNSUPPORTED) { listOf("$photometric, uncompressed, ${int(BITS_ALLOCATED)} bits") }
        val stored = stored(rows * columns * samples, chosen)
        return if (grey) showGrey(stored, columns, rows, photometric == "MONOCHROME1") else showColour(stored, columns, rows, photometric == "YBR_FULL")
    }

    // Reading the data set

    private fun readHeader() {
        demand(marks(ByteArray(minOf(132, data.limit())) { data.get(it) }), Problem.DICOM_DAMAGED) { listOf("no DICM mark") }
        val body = readElements(132, stopAfterMeta = true)
        syntax = text(TRANSFER_SYNTAX) ?: throw MedgeException(Problem.DICOM_DAMAGED, "no transfer syntax")
        demand(syntax in READABLE, Problem.DICOM_TRANSFER_SYNTAX) { listOf(nameOf(syntax)) }
        implicit = syntax == IMPLICIT_LITTLE
        readElements(body, stopAfterMeta = false)
    }

    /** Note where each element of the top level lies; gives the place after the last one read. */
    private fun readElements(start: Int, stopAfterMeta: Boolean): Int {
        var at = start
        while (at + 8 <= data.limit()) {
            val group = short(at)
            if (stopAfterMeta && group != 2) return at
            val header = header(at, implicit && group != 2)
            at = header.from
            if (header.length == UNDEFINED) {
                if (header.tag == PIXEL_DATA) {
                    elements[PIXEL_DATA] = Element(at, UNDEFINED)
                    return data.limit()
                }
                elements[header.tag] = Element(at, UNDEFINED)
                at = skipSequence(at, header.vr == "UN", 0)
            } else {
                checkEnd(header, at)
                elements[header.tag] = Element(at, header.length)
                at += header.length
            }
        }
        return at
    }

    private fun checkEnd(header: Header, from: Int) =
        demand(header.length >= 0 && from + header.length.toLong() <= data.limit(), Problem.DICOM_DAMAGED) { listOf("it ends early") }

    private class Header(val tag: Int, val vr: String, val length: Int, val from: Int)

    private fun header(at: Int, implicit: Boolean): Header {
        val tag = (short(at) shl 16) or short(at + 2)
        if (implicit || tag ushr 16 == 0xfffe) return Header(tag, "", data.getInt(at + 4), at + 8)
        val vr = String(byteArrayOf(data.get(at + 4), data.get(at + 5)), Charsets.US_ASCII)
        return if (vr in LONG_FORM) Header(tag, vr, data.getInt(at + 8), at + 12) else Header(tag, vr, short(at + 6), at + 8)
    }

    /** The place after a sequence of undefined length; sequences lie in each other, hence the depth. */
    private fun skipSequence(start: Int, unknown: Boolean, depth: Int): Int {
        demand(depth < MOST_DEPTH, Problem.DICOM_DAMAGED) { listOf("sequences lie too deep") }
        var at = start
        while (true) {
            val item = header(at, implicit = true)
            at = item.from
            if (item.tag == SEQUENCE_END) return at
            demand(item.tag == ITEM, Problem.DICOM_DAMAGED) { listOf("a sequence holds no item") }
            if (item.length != UNDEFINED) {
                checkEnd(item, at)
                at += item.length
                continue
            }
            while (true) {
                val inner = header(at, implicit || unknown) // PS3.5 6.2.2: what is in a UN is implicit
                at = inner.from
                if (inner.tag == ITEM_END) break
                if (inner.length == UNDEFINED) {
                    at = skipSequence(at, unknown || inner.vr == "UN", depth + 1)
                } else {
                    checkEnd(inner, at)
                    at += inner.length
                }
            }
        }
    }

    private fun short(at: Int): Int = data.getShort(at).toInt() and 0xffff

    private fun text(tag: Int): String? {
        val element = elements[tag]?.takeIf { it.length in 1..1024 } ?: return null
        return String(ByteArray(element.length) { data.get(element.from + it) }, Charsets.ISO_8859_1).trim(' ', '\u0000')
    }

    private fun int(tag: Int): Int? = elements[tag]?.takeIf { it.length >= 2 }?.let { short(it.from) }

    /** The first of a possibly many-valued decimal string. */
    private fun number(tag: Int): Double? = text(tag)?.split('\\')?.first()?.trim()?.toDoubleOrNull()

    // What is there, and whether it is a picture

    private fun checkPicture() {
        NOT_PICTURES[text(SOP_CLASS)]?.let { throw MedgeException(Problem.DICOM_NO_PICTURE, it) }
        demand(PIXEL_DATA in elements, Problem.DICOM_NO_PICTURE) { listOf(text(SOP_CLASS) ?: "no pixel data") }
        for ((tag, what) in listOf(ROWS to "Rows", COLUMNS to "Columns", BITS_ALLOCATED to "BitsAllocated", PHOTOMETRIC to "PhotometricInterpretation")) {
            demand(tag in elements && text(tag) != "", Problem.DICOM_DAMAGED) { listOf("$what is missing") }
        }
        demand(int(BITS_ALLOCATED) != 1, Problem.DICOM_NO_PICTURE) { listOf("one bit per pixel") }
        demand(text(PHOTOMETRIC) in SHOWN, Problem.DICOM_UNSUPPORTED) { listOf(text(PHOTOMETRIC) ?: "?") }
        if (text(PHOTOMETRIC) in GREY) {
            // A table, or a window kept frame by frame, would have to be applied: without it the picture would be another.
            for ((tag, what) in TABLES) demand(tag !in elements, Problem.DICOM_UNSUPPORTED) { listOf(what) }
        }
    }

    // Pixels

    /** Stored values of one frame, with the sign that the header gives them. */
    private fun stored(count: Int, frame: Int): IntArray {
        val element = elements.getValue(PIXEL_DATA)
        val allocated = int(BITS_ALLOCATED)!!
        demand(allocated == 8 || allocated == 16, Problem.DICOM_UNSUPPORTED) { listOf("$allocated bits per value") }
        demand(element.length != UNDEFINED, Problem.DICOM_DAMAGED) { listOf("pixel data of unknown length") }
        val width = allocated / 8
        val start = element.from + frame.toLong() * count * width
        demand(start + count.toLong() * width <= element.from + element.length.toLong(), Problem.DICOM_DAMAGED) { listOf("pixel data end early") }
        val signed = int(REPRESENTATION) == 1
        val from = start.toInt()
        val values = IntArray(count)
        val unused = 32 - (int(BITS_STORED) ?: allocated).coerceIn(1, allocated)
        for (index in values.indices) {
            val raw = if (width == 1) data.get(from + index).toInt() and 0xff else short(from + 2 * index)
            // Bits above the stored ones may hold anything (overlays, once).
            values[index] = if (signed) raw shl unused shr unused else raw shl unused ushr unused
        }
        return values
    }

    private fun showGrey(stored: IntArray, width: Int, height: Int, invert: Boolean): Pixels {
        val slope = number(RESCALE_SLOPE) ?: 1.0
        val intercept = number(RESCALE_INTERCEPT) ?: 0.0
        val shown = transfer(stored, slope, intercept)
        val values = ShortArray(stored.size * 3)
        for (index in stored.indices) {
            val unit = shown(stored[index] * slope + intercept).coerceIn(0.0, 1.0)
            val grey = round(unit * 255).toInt().let { if (invert) 255 - it else it }.toShort()
            values[3 * index] = grey
            values[3 * index + 1] = grey
            values[3 * index + 2] = grey
        }
        return Pixels(width, height, values)
    }

    /** From rescaled units to [0, 1]: the file's first window, else its own range (DICOM PS3.3 C.11.2.1). */
    private fun transfer(stored: IntArray, slope: Double, intercept: Double): (Double) -> Double {
        val centre = number(WINDOW_CENTRE)
        val width = number(WINDOW_WIDTH)
        if (centre != null && width != null && width >= 1) {
            return when (text(VOI_FUNCTION)) {
                "SIGMOID" -> { value -> 1 / (1 + exp((-4 * (value - centre) / width).coerceIn(-700.0, 700.0))) }
                "LINEAR_EXACT" -> { value -> (value - centre) / width + 0.5 }
                else -> if (width <= 1) { value -> if (value > centre - 0.5) 1.0 else 0.0 }
                else { value -> (value - (centre - 0.5)) / (width - 1) + 0.5 }
            }
        }
        if (int(BITS_STORED) == 8 && int(REPRESENTATION) != 1) return { it / 255 }
        val padding = elements[PADDING]?.takeIf { it.length == 2 }?.let { if (int(REPRESENTATION) == 1) data.getShort(it.from).toInt() else short(it.from) }
        var low = Double.MAX_VALUE
        var high = -Double.MAX_VALUE
        for (value in stored) {
            if (value == padding) continue
            val unit = value * slope + intercept
            if (unit < low) low = unit
            if (unit > high) high = unit
        }
        return if (high > low) { value -> (value - low) / (high - low) } else { _ -> 0.0 }
    }

    private fun showColour(stored: IntArray, width: Int, height: Int, luminance: Boolean): Pixels {
        val plane = width * height
        val planar = int(PLANAR) == 1
        val values = ShortArray(3 * plane)
        for (index in 0 until plane) {
            val (a, b, c) = Triple(
                stored[if (planar) index else 3 * index],
                stored[if (planar) plane + index else 3 * index + 1],
                stored[if (planar) 2 * plane + index else 3 * index + 2],
            )
            val colour = if (luminance) fromYbr(a, b, c) else intArrayOf(a, b, c)
            for (channel in 0..2) values[3 * index + channel] = colour[channel].toShort()
        }
        return Pixels(width, height, values)
    }

    /** DICOM PS3.3 C.7.6.3.1.2, rounded down after adding a half. */
    private fun fromYbr(y: Int, blue: Int, red: Int): IntArray {
        val cb = blue - 128.0
        val cr = red - 128.0
        return intArrayOf(
            kotlin.math.floor(y + 1.402 * cr + 0.5).toInt().coerceIn(0, 255),
            kotlin.math.floor(y - 0.114 * 1.772 / 0.587 * cb - 0.299 * 1.402 / 0.587 * cr + 0.5).toInt().coerceIn(0, 255),
            kotlin.math.floor(y + 1.772 * cb + 0.5).toInt().coerceIn(0, 255),
        )
    }

    private fun fromJpeg(jpeg: JpegDecoder, photometric: String, width: Int, height: Int, frame: Int, frames: Int): Pixels {
        // A JPEG decoder takes three components for luminance and chrominance: RGB stored as it is would come out in false colours.
        demand(photometric != "RGB", Problem.DICOM_UNSUPPORTED) { listOf("RGB within JPEG") }
        val bytes = fragments(frame, frames)
        val (wide, high) = jpegSize(bytes) ?: throw MedgeException(Problem.DICOM_DAMAGED, "no JPEG frame")
        demand(wide == width && high == height, Problem.DICOM_DAMAGED) { listOf("the header says $width x $height, the JPEG $wide x $high") }
        val decoded = jpeg.decode(bytes) ?: throw MedgeException(Problem.DICOM_DAMAGED, "the JPEG can't be decoded")
        if (photometric !in GREY) return decoded
        val grey = IntArray(width * height) { decoded[3 * it] }
        return showGrey(grey, width, height, photometric == "MONOCHROME1")
    }

    /** The bytes of one compressed frame. */
    private fun fragments(frame: Int, frames: Int): ByteArray {
        val element = elements.getValue(PIXEL_DATA)
        demand(element.length == UNDEFINED, Problem.DICOM_DAMAGED) { listOf("compressed pixel data without fragments") }
        val parts = ArrayList<Pair<Int, Int>>()
        var at = element.from
        var table: Pair<Int, Int>? = null
        while (true) {
            val item = header(at, implicit = true)
            if (item.tag == SEQUENCE_END) break
            demand(item.tag == ITEM && item.length >= 0 && item.from + item.length.toLong() <= data.limit(), Problem.DICOM_DAMAGED) { listOf("pixel data end early") }
            if (table == null) table = item.from to item.length else parts += item.from to item.length
            at = item.from + item.length
        }
        val offsets = table?.takeIf { it.second >= 4 * frames }?.let { (from, _) -> IntArray(frames) { data.getInt(from + 4 * it) } }
        val chosen = when {
            frames == 1 -> parts
            parts.size == frames -> listOf(parts[frame])
            offsets != null -> {
                val first = parts.first().first - 8
                val end = if (frame + 1 < frames) offsets[frame + 1] else Int.MAX_VALUE
                parts.filter { it.first - 8 - first in offsets[frame] until end }
            }
            else -> throw MedgeException(Problem.DICOM_UNSUPPORTED, "frames in pieces without a table of offsets")
        }
        return chosen.map { (from, length) -> ByteArray(length) { data.get(from + it) } }.reduceOrNull { a, b -> a + b }
            ?: throw MedgeException(Problem.DICOM_DAMAGED, "no frame $frame")
    }

    companion object {
        private const val IMPLICIT_LITTLE = "1.2.840.10008.1.2"
        private const val JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
        private val READABLE = setOf(IMPLICIT_LITTLE, "1.2.840.10008.1.2.1", JPEG_BASELINE)
        private val NAMES = mapOf(
            "1.2.840.10008.1.2.1.99" to "Deflated Explicit VR Little Endian",
            "1.2.840.10008.1.2.2" to "Explicit VR Big Endian",
            "1.2.840.10008.1.2.4.51" to "JPEG Extended",
            "1.2.840.10008.1.2.4.57" to "JPEG Lossless",
            "1.2.840.10008.1.2.4.70" to "JPEG Lossless",
            "1.2.840.10008.1.2.4.80" to "JPEG-LS Lossless",
            "1.2.840.10008.1.2.4.81" to "JPEG-LS Near-lossless",
            "1.2.840.10008.1.2.4.90" to "JPEG 2000 Lossless",
            "1.2.840.10008.1.2.4.91" to "JPEG 2000",
            "1.2.840.10008.1.2.4.201" to "HTJ2K Lossless",
            "1.2.840.10008.1.2.4.203" to "HTJ2K",
            "1.2.840.10008.1.2.5" to "RLE Lossless",
        )
        private val LONG_FORM = setOf("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
        private val GREY = setOf("MONOCHROME1", "MONOCHROME2")
        private val SHOWN = GREY + setOf("RGB", "YBR_FULL", "YBR_FULL_422")

        /** Objects whose pixels are no picture of a patient. */
        private val NOT_PICTURES = mapOf(
            "1.2.840.10008.5.1.4.1.1.481.2" to "RT dose",
            "1.2.840.10008.5.1.4.1.1.66.4" to "segmentation",
            "1.2.840.10008.5.1.4.1.1.66.7" to "label map",
            "1.2.840.10008.5.1.4.1.1.30" to "parametric map",
        )
        private const val UNDEFINED = -1
        private const val MOST_DEPTH = 64
        private const val TRANSFER_SYNTAX = 0x00020010
        private const val SOP_CLASS = 0x00080016
        private const val SAMPLES = 0x00280002
        private const val PHOTOMETRIC = 0x00280004
        private const val PLANAR = 0x00280006
        private const val NUMBER_OF_FRAMES = 0x00280008
        private const val ROWS = 0x00280010
        private const val COLUMNS = 0x00280011
        private const val BITS_ALLOCATED = 0x00280100
        private const val BITS_STORED = 0x00280101
        private const val REPRESENTATION = 0x00280103
        private const val PADDING = 0x00280120
        private const val WINDOW_CENTRE = 0x00281050
        private const val WINDOW_WIDTH = 0x00281051
        private const val RESCALE_INTERCEPT = 0x00281052
        private const val RESCALE_SLOPE = 0x00281053
        private const val VOI_FUNCTION = 0x00281056
        private val TABLES = listOf(
            0x00283000 to "it needs a modality table",
            0x00283010 to "it needs a display table",
            0x52009229 to "it keeps its window frame by frame",
        )
        private const val PIXEL_DATA = 0x7fe00010
        private const val ITEM = 0xfffee000.toInt()
        private const val ITEM_END = 0xfffee00d.toInt()
        private const val SEQUENCE_END = 0xfffee0dd.toInt()

        private fun nameOf(syntax: String): String = NAMES[syntax]?.let { "$it ($syntax)" } ?: syntax

        /** Whether the first bytes of a file carry DICOM's mark. */
        fun marks(head: ByteArray): Boolean = head.size >= 132 && String(head, 128, 4, Charsets.US_ASCII) == "DICM"

        /**
         * Read one frame of a file.
         *
         * @throws MedgeException not a picture, damaged, or not of the subset; for a transfer syntax, says which
         */
        fun read(file: File, frame: Int? = null, jpeg: JpegDecoder): Pixels = try {
            val data = RandomAccessFile(file, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }
            Dicom(data.order(ByteOrder.LITTLE_ENDIAN)).picture(frame, jpeg)
        } catch (error: IndexOutOfBoundsException) {
            throw MedgeException(Problem.DICOM_DAMAGED, "it ends early", cause = error)
        } catch (error: EOFException) {
            throw MedgeException(Problem.DICOM_DAMAGED, "it ends early", cause = error)
        }

        /** Width and height as the first frame header of a JPEG states them. */
        internal fun jpegSize(bytes: ByteArray): Pair<Int, Int>? {
            fun byte(at: Int) = bytes.getOrElse(at) { 0 }.toInt() and 0xff
            var at = 2
            while (at + 9 < bytes.size && byte(at) == 0xff) {
                val marker = byte(at + 1)
                if (marker == 0xff) { // fill
                    at++
                    continue
                }
                if (marker in 0xc0..0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) {
                    return (byte(at + 7) shl 8 or byte(at + 8)) to (byte(at + 5) shl 8 or byte(at + 6))
                }
                at += 2 + (byte(at + 2) shl 8 or byte(at + 3))
            }
            return null
        }
    }
}
