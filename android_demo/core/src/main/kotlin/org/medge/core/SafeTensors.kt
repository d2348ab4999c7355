package org.medge.core

import com.google.gson.JsonObject
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel

/**
 * A safetensors file, memory-mapped: eight bytes of header length, a JSON header, then the tensors' bytes, little-endian.
 *
 * @throws MedgeException not of this format, or truncated
 */
class SafeTensors(private val file: File) {
    /** One tensor: its dtype as the format names it ("F32", "I64", "U8"), its shape, and where its bytes lie. */
    class Tensor(val dtype: String, val shape: List<Int>, internal val bytes: ByteBuffer) {
        private val count: Int get() = shape.fold(1) { product, size -> product * size }

        /** Values of an F32 tensor, row by row. */
        fun floats(): FloatArray {
            require(dtype == "F32") { dtype }
            return FloatArray(count).also { bytes.duplicate().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(it) }
        }

        /** Values of an I64 tensor, row by row. */
        fun longs(): LongArray {
            require(dtype == "I64") { dtype }
            return LongArray(count).also { bytes.duplicate().order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().get(it) }
        }

        /** The bytes of a tensor of any type. */
        fun raw(): ByteArray = ByteArray(bytes.remaining()).also { bytes.duplicate().get(it) }
    }

    val metadata: Map<String, String>
    private val tensors: Map<String, Tensor>

    init {
        try {
            val data = RandomAccessFile(file, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }
            val size = data.order(ByteOrder.LITTLE_ENDIAN).getLong(0)
            demand(size in 2..(data.limit() - 8L), Problem.TENSORS_DAMAGED) { listOf(file.name) }
            val text = ByteArray(size.toInt()).also { data.part(8, 8 + size.toInt()).get(it) }
            val header = parseJson(String(text)) as JsonObject
            val start = 8 + size.toInt()
            metadata = header.child("__metadata__")?.entrySet()?.associate { (key, value) -> key to value.asString }.orEmpty()
            tensors = header.entrySet().filter { it.key != "__metadata__" }.associate { (name, value) ->
                val entry = value as JsonObject
                val (from, to) = entry.list("data_offsets")!!.map { it.asInt }
                val shape = entry.list("shape")!!.map { it.asInt }
                val dtype = entry.text("dtype")!!
                val wide = WIDTHS.getValue(dtype)
                demand(shape.fold(wide.toLong()) { product, n -> product * n } == (to - from).toLong(), Problem.TENSORS_DAMAGED) {
                    listOf(file.name)
                }
                name to Tensor(dtype, shape, data.part(start + from, start + to))
            }
        } catch (error: IOException) {
            throw MedgeException(Problem.TENSORS_DAMAGED, file.name, cause = error)
        } catch (error: RuntimeException) { // a header that lies about offsets ends in one of half a dozen types
            throw MedgeException(Problem.TENSORS_DAMAGED, file.name, cause = error)
        }
    }

    val names: Set<String> get() = tensors.keys

    operator fun contains(name: String): Boolean = name in tensors

    /** @throws MedgeException there is no such tensor */
    operator fun get(name: String): Tensor = tensors[name] ?: throw MedgeException(Problem.TENSORS_DAMAGED, file.name)

    private companion object {
        val WIDTHS = mapOf("F32" to 4, "I64" to 8, "U8" to 1, "U16" to 2, "I32" to 4)
    }
}

// As java.nio.Buffer: ByteBuffer's own position() and limit() came to Android later than API 26.
private fun ByteBuffer.part(from: Int, to: Int): ByteBuffer {
    val copy = duplicate()
    (copy as Buffer).limit(to)
    (copy as Buffer).position(from)
    return copy.slice()
}
