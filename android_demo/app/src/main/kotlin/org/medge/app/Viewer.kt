package org.medge.app

import android.graphics.Bitmap
import android.net.Uri
import org.medge.core.Decision
import org.medge.core.Hit
import org.medge.core.LabelLists
import org.medge.core.MedgeException
import org.medge.core.Problem
import org.medge.core.Score
import java.io.File
import java.util.Locale

/** The picture that is looked at, with its scores and its neighbours. Screens come and go, this stays. */
class Viewer(private val app: MedgeApp) {
    val file = File(app.filesDir, "picture")
    val lists = LabelLists(File(app.filesDir, "labels"))
    var thumbnail: Bitmap? = null
        private set
    var scores: List<Score> = emptyList()
        private set
    var similar: List<Hit> = emptyList()
        private set

    /** What calibrated scores say of the picture; null where the bundle's scores are not calibrated, or nothing is scored yet. */
    var decision: Decision? = null
        private set
    var message = ""
        private set

    /** Whether [message] is a problem's. */
    var failed = false
        private set

    /** Whether the problem is that there is no model for pictures. */
    var lacksModel = false
        private set
    var working = false
        private set

    /** The list to score against; null for the bundle's own. */
    var list: String? = null
        private set
    private var embedding: FloatArray? = null
    private var listener: (() -> Unit)? = null

    val hasPicture: Boolean get() = embedding != null

    fun attach(changed: () -> Unit) {
        listener = changed
        changed()
    }

    fun detach() {
        listener = null
    }

    /** A new start of the app begins without the picture of the last one. */
    fun forget() {
        file.delete()
    }

    /** After the system has ended the process: what was there is there again. */
    fun restore() {
        if (thumbnail == null && file.isFile) look()
    }

    /** Take a picture from a picker or the camera. */
    fun open(uri: Uri) = work({ Pictures.copy(app.contentResolver, uri, file) }) { look() }

    private fun look() {
        embedding = null
        scores = emptyList()
        decision = null
        similar = emptyList()
        work({
            val pixels = Pictures.read(file)
            app.models.onMain { thumbnail = Pictures.thumbnail(pixels, SHOWN); listener?.invoke() }
            app.models.encoder().embed(pixels)
        }) {
            embedding = it
            rate()
        }
    }

    /** Score against another list. */
    fun choose(name: String?) {
        if (name == list) return
        list = name
        listener?.invoke()
        rate()
    }

    private fun rate() {
        val looked = embedding ?: return
        val chosen = list
        work({
            val encoder = app.models.encoder()
            val bank = if (chosen == null) encoder.bakedLabels else encoder.bank(lists.read(chosen))
            val rated = bank?.let { encoder.score(looked, it) }.orEmpty().sortedByDescending { it.cosine }
            Triple(rated, encoder.decide(looked, bank), app.models.index().search(looked, NEIGHBOURS))
        }) { (rated, decided, found) ->
            scores = rated
            decision = decided
            similar = found
        }
    }

    /** Keep the picture's embedding, to be found by similar ones; the picture itself is not kept. */
    fun save() {
        val looked = embedding ?: return
        work({
            val name = java.text.SimpleDateFormat("yyyy-MM-dd HH:mm:ss", Locale.ROOT).format(java.util.Date())
            app.models.index().add(name, looked)
            name
        }) { message = app.getString(R.string.saved, it) }
    }

    private fun <T> work(task: () -> T, done: (T) -> Unit) {
        working = true
        failed = false
        lacksModel = false
        message = app.getString(R.string.working)
        listener?.invoke()
        app.models.onImages(task, ::fail) {
            finish("")
            done(it)
            listener?.invoke()
        }
    }

    /** End what was being done with a problem. */
    fun fail(error: MedgeException) {
        lacksModel = error.problem == Problem.NO_MANIFEST
        failed = true
        finish(if (lacksModel) app.getString(R.string.bundles_none_encoder) else app.explain(error))
    }

    /** End what was being done, with a sentence for the user or with "". */
    fun finish(text: String) {
        working = false
        message = text
        listener?.invoke()
    }

    private companion object {
        const val SHOWN = 1024
        const val NEIGHBOURS = 5
    }
}
