package org.medge.core

/** A part of a prompt: a [Token] or a [Picture]. Not sealed: the dexer of CI's build does not know sealed classes. */
interface Item {
    /** Positions that it takes in the context. */
    val length: Int
}

/** One token. */
data class Token(val id: Int) : Item {
    override val length: Int get() = 1
}

/** An image, side × side × 3 bytes; [key] is its SHA-256, by which it is known again. */
class Picture(val rgb: ByteArray, val side: Int, override val length: Int) : Item {
    val key: String = sha256(rgb)

    override fun equals(other: Any?): Boolean = other is Picture && other.key == key

    override fun hashCode(): Int = key.hashCode()
}

/** Most tokens of text that are evaluated at once: as many as in Python's runtime, for kernels round by their number. */
internal const val STEP = 128

/**
 * Where a prompt is cut into the steps that it is evaluated in: the items before which a step begins, without the first, and the end.
 *
 * An image is a step of its own; text is cut each [step] tokens from the last image, or the beginning, on. As in Python's runtime, so
 * that answers are the same, and depend on nothing that was evaluated before.
 */
internal fun cuts(items: List<Item>, step: Int = STEP): List<Int> {
    val found = ArrayList<Int>()
    var since = 0 // the last cut
    for (place in 1 until items.size) {
        val besideImage = items[place] is Picture || items[place - 1] is Picture
        if (besideImage || place - since == step) {
            found += place
            since = place
        }
    }
    if (items.isNotEmpty()) found += items.size
    return found
}
