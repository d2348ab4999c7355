package org.medge.core

import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.io.FileOutputStream
import java.io.IOException

/** An image found: the name it was saved under and its cosine with what was looked for. */
class Hit(val name: String, val cosine: Float)

/**
 * Saved images by their embeddings, in one file that only grows; searched exactly.
 *
 * Exact, because a phone holds thousands of images, not millions. A record that a power cut left half-written is dropped when the file is
 * opened.
 *
 * @param fingerprint of the bundle; vectors of another can't be compared
 * @throws MedgeException the file belongs to another bundle
 */
class VectorIndex(private val file: File, private val fingerprint: String, private val width: Int) {
    private val names = ArrayList<String>()
    private val vectors = ArrayList<FloatArray>()

    val size: Int get() = names.size

    init {
        if (file.exists()) load() else write(append = false) { it.writeUTF(fingerprint) }
    }

    /** Save an image under a name, in place of an earlier one of this name. */
    fun add(name: String, vector: FloatArray) {
        require(vector.size == width)
        write(append = true) {
            it.writeUTF(name)
            vector.forEach(it::writeFloat)
            it.writeInt(checksum(name, vector))
        }
        keep(name, vector)
    }

    /** The [count] images nearest to a unit-length embedding, best first. */
    fun search(query: FloatArray, count: Int): List<Hit> =
        names.indices.map { Hit(names[it], dot(vectors[it], query)) }.sortedByDescending { it.cosine }.take(count)

    private fun keep(name: String, vector: FloatArray) {
        val known = names.indexOf(name)
        if (known >= 0) {
            vectors[known] = vector
        } else {
            names += name
            vectors += vector
        }
    }

    private fun load() {
        var whole = 0L
        DataInputStream(file.inputStream().buffered()).use { stream ->
            val owner = try { stream.readUTF() } catch (_: IOException) { "" }
            demand(owner == fingerprint, Problem.INDEX_OF_OTHER_BUNDLE)
            whole = 2L + owner.toByteArray().size
            while (true) {
                try {
                    val name = stream.readUTF()
                    val vector = FloatArray(width) { stream.readFloat() }
                    if (stream.readInt() != checksum(name, vector)) break
                    keep(name, vector)
                    whole += 2 + name.toByteArray().size + 4L * width + 4
                } catch (_: IOException) { // the end, or the middle of a record
                    break
                }
            }
        }
        if (whole < file.length()) FileOutputStream(file, true).use { it.channel.truncate(whole) }
    }

    private fun write(append: Boolean, block: (DataOutputStream) -> Unit) {
        FileOutputStream(file, append).use { raw ->
            val stream = DataOutputStream(raw.buffered())
            block(stream)
            stream.flush()
            raw.fd.sync()
        }
    }

    private fun checksum(name: String, vector: FloatArray): Int = 31 * name.hashCode() + vector.contentHashCode()
}
