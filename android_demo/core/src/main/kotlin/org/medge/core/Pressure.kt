package org.medge.core

/** What to do about a phone that gets hot or short of memory. */
enum class Relief { GO_ON, SLOW_DOWN, PAUSE, UNLOAD }

/** Turns Android's thermal status and memory warnings into what an answer in the making does. */
object Pressure {
    // PowerManager.THERMAL_STATUS_*: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown.
    private const val MODERATE = 2
    private const val SEVERE = 3

    // ComponentCallbacks2.TRIM_MEMORY_*: 10 running low, 15 running critical, 20 UI hidden, 40 background, 60 moderate, 80 complete.
    private const val RUNNING_CRITICAL = 15
    private const val UI_HIDDEN = 20
    private const val BACKGROUND = 40

    /** Fewer threads while warm; a pause from "severe" on, before the system slows everything down or ends the app. */
    fun ofHeat(status: Int): Relief = when {
        status >= SEVERE -> Relief.PAUSE
        status >= MODERATE -> Relief.SLOW_DOWN
        else -> Relief.GO_ON
    }

    /** In use, only a critical shortage unloads the model; in the background any does, unless an answer is being written. */
    fun ofMemory(level: Int, answering: Boolean): Relief = when {
        level == RUNNING_CRITICAL -> Relief.UNLOAD
        level == UI_HIDDEN -> Relief.GO_ON
        level >= BACKGROUND && !answering -> Relief.UNLOAD
        else -> Relief.GO_ON
    }

    /** Threads to use of [all]. */
    fun threads(relief: Relief, all: Int): Int = if (relief == Relief.SLOW_DOWN) maxOf(1, all / 2) else all
}
