package org.medge.core

import java.io.File
import kotlin.math.max

/**
 * Weights that stay in their file because memory does not hold them, as benchmarks/from_storage.py has measured it on Linux; the Python
 * runtime's `device/storage.py` has the same numbers.
 */
object Storage {
    /** Of weights that have room for a share of themselves, how often each byte is read again for a token: share to times. */
    val READ_AGAIN = listOf(1.0 to 0.0, 0.95 to 0.37, 0.9 to 0.97, 0.4 to 0.97, 0.25 to 1.01, 0.1 to 1.57)
    const val LEAST_SHARE = 0.1 // less was not measured
    const val SLOWER = 1.3 // reading in between against reading a file from beginning to end

    /** How often each byte of the weights is read again for a token; between the measured shares a straight line. */
    fun readAgain(share: Double): Double {
        if (share >= READ_AGAIN[0].first) return 0.0
        for ((above, below) in READ_AGAIN.zipWithNext()) {
            if (share >= below.first) {
                return above.second + (below.second - above.second) * (above.first - share) / (above.first - below.first)
            }
        }
        return READ_AGAIN.last().second
    }

    /** Bytes a second of reading a file from beginning to end, of which memory should hold little. */
    fun speed(file: File): Long {
        val buffer = ByteArray(1 shl 20)
        val began = System.nanoTime()
        var total = 0L
        file.inputStream().use { stream ->
            while (true) {
                val count = stream.read(buffer)
                if (count < 0) break
                total += count
            }
        }
        return (total / (max(1, System.nanoTime() - began) / 1e9)).toLong()
    }
}
