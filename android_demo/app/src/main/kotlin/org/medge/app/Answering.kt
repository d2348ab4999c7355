package org.medge.app

import org.medge.core.Conversation
import org.medge.core.MedgeException
import org.medge.core.Pressure
import org.medge.core.Problem
import org.medge.core.Relief
import java.io.File
import java.util.concurrent.CancellationException

/** The conversation and the answer in the making; goes on while its screen is rotated or away. */
class Answering(private val app: MedgeApp) {
    private val folder = File(app.filesDir, "conversation").apply { mkdirs() }
    val conversation = Conversation(File(folder, "turns.json"))
    var running = false
        private set
    var message = ""
        private set

    /** Whether the question is being read, of which [message] tells. */
    var reading = false
        private set
    private var listener: (() -> Unit)? = null
    @Volatile private var reader: Reader? = null
    @Volatile private var cancelled = false

    fun attach(changed: () -> Unit) {
        listener = changed
        changed()
    }

    /** The screen goes away: what is written so far is on the disk before the system may end the process. */
    fun detach() {
        listener = null
        if (conversation.turns.isNotEmpty()) conversation.save()
    }

    /** Ask; [picture] is copied, since the viewer's may be replaced meanwhile. */
    fun ask(question: String, picture: File?) {
        if (running) return
        val kept = picture?.takeIf { it.isFile }?.copyTo(File(folder, "picture-${conversation.turns.size}"), overwrite = true)
        conversation.ask(question, kept)
        go()
    }

    /** Go on with an answer that was cut off. */
    fun resume() {
        if (!running && conversation.resumable) go()
    }

    fun cancel() {
        cancelled = true
        reader?.engine?.cancel()
    }

    fun clear() {
        if (!running) conversation.clear()
        message = ""
        listener?.invoke()
    }

    private fun go() {
        running = true
        cancelled = false
        tell(app.getString(R.string.ask_reading), reading = true)
        val turns = conversation.turns.toList()
        val begun = turns.last().text
        app.models.onTexts({
            val model = app.models.reader()
            reader = model
            val slow = app.warning(model.plan)
            if (slow.isNotEmpty()) app.models.onMain { if (reading) tell(app.getString(R.string.ask_reading) + "\n" + slow, reading = true) }
            try {
                if (cancelled) throw CancellationException()
                var count = 0
                val prompt = model.chat.prompt(turns, Pictures::read)
                val (text, _) = model.chat.answer(prompt, LIMIT, begun) { text ->
                    if (count++ % HEAT_EVERY == 0) mindHeat(model)
                    app.models.onMain { write(text) }
                    !cancelled
                }
                if (cancelled) null else text
            } catch (_: CancellationException) {
                null
            } finally {
                reader = null
            }
        }, { error -> end(if (error.problem == Problem.NO_MANIFEST) app.getString(R.string.ask_no_model) else app.explain(error)) }) { text ->
            if (text != null) conversation.write(text, complete = true)
            end("")
        }
    }

    /** Fewer threads on a warm phone; on a hot one, wait. On the model's thread. */
    private fun mindHeat(model: Reader) {
        var relief = Pressure.ofHeat(app.thermalStatus())
        while (relief == Relief.PAUSE && !cancelled) {
            app.models.onMain { tell(app.explain(MedgeException(Problem.TOO_HOT))) }
            Thread.sleep(2000)
            relief = Pressure.ofHeat(app.thermalStatus())
        }
        model.engine.useThreads(Pressure.threads(relief, model.threads))
    }

    private fun write(text: String) {
        if (!running) return
        conversation.write(text, complete = false)
        tell("")
    }

    private fun end(text: String) {
        running = false
        conversation.save()
        tell(text)
    }

    private fun tell(text: String, reading: Boolean = false) {
        message = text
        this.reading = reading
        listener?.invoke()
    }

    private companion object {
        const val LIMIT = 512
        const val HEAT_EVERY = 16
    }
}
