package org.medge.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * SentencePiece's precompiled normalisation: a double-array trie (darts-clone) from UTF-8 to offsets of replacements.
 *
 * As Hugging Face's `tokenizers` applies it: a grapheme of fewer than six bytes is looked up whole, else each character; the shortest
 * key that begins it decides.
 */
internal class Charsmap(data: ByteArray) {
    private val trie: IntArray
    private val replacements: ByteArray

    init {
        val size = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN).getInt(0)
        trie = IntArray(size / 4).also { ByteBuffer.wrap(data, 4, size).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer().get(it) }
        replacements = data.copyOfRange(4 + size, data.size)
    }

    fun apply(text: String): String {
        val out = StringBuilder()
        for (grapheme in graphemes(text)) {
            val bytes = grapheme.toByteArray()
            val whole = if (bytes.size < 6) lookUp(bytes) else null
            if (whole != null) {
                out.append(whole)
                continue
            }
            forEachCodePoint(grapheme) { char -> out.append(lookUp(char.toByteArray()) ?: char) }
        }
        return out.toString()
    }

    private fun lookUp(key: ByteArray): String? {
        var node = offset(trie[0])
        for (byte in key) {
            val label = byte.toInt() and 0xff
            if (label == 0) return null
            node = node xor label
            if (node !in trie.indices) return null
            val unit = trie[node]
            if (unit and LABEL_MASK != label) return null
            node = node xor offset(unit)
            if (unit ushr 8 and 1 == 1) return replacement(trie[node] and Int.MAX_VALUE)
        }
        return null
    }

    private fun offset(unit: Int): Int = (unit ushr 10) shl (unit and (1 shl 9) ushr 6)

    private fun replacement(from: Int): String {
        var to = from
        while (to < replacements.size && replacements[to] != 0.toByte()) to++
        return String(replacements, from, to - from)
    }

    private companion object {
        const val LABEL_MASK = (1 shl 31) or 0xff
    }
}

private val GRAPHEME = Regex("\\X")

private fun graphemes(text: String): Sequence<String> = GRAPHEME.findAll(text).map { it.value }

internal inline fun forEachCodePoint(text: String, action: (String) -> Unit) {
    var at = 0
    while (at < text.length) {
        val size = Character.charCount(text.codePointAt(at))
        action(text.substring(at, at + size))
        at += size
    }
}
