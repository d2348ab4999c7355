package org.medge.app

import android.app.Application
import android.content.Context
import android.system.Os
import org.medge.core.Pressure
import org.medge.core.Relief

/** What lives as long as the process, so that no rotation ends an answer. */
class MedgeApp : Application() {
    val models: Models by lazy { Models(this) }
    val viewer: Viewer by lazy { Viewer(this) }
    val answering: Answering by lazy { Answering(this) }

    /** Runs before any library is loaded: ONNX Runtime's own looks for this switch, and else keeps records of its use. */
    override fun attachBaseContext(base: Context) {
        Os.setenv("ORT_DISABLE_TELEMETRY", "1", true)
        super.attachBaseContext(base)
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (Pressure.ofMemory(level, answering.running) == Relief.UNLOAD) models.unload(answering)
    }
}
