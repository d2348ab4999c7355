package org.medge.app

import android.app.Activity
import android.os.Bundle
import android.view.View
import android.widget.EditText
import android.widget.ScrollView
import android.widget.TextView

/** Questions about the picture, answered as they are written. */
class AskActivity : Activity() {
    private val app get() = application as MedgeApp
    private val answering get() = app.answering

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.ask)
        view(R.id.send).setOnClickListener { send() }
        view(R.id.stop).setOnClickListener { answering.cancel() }
        view(R.id.resume).setOnClickListener { answering.resume() }
        view(R.id.clear).setOnClickListener { answering.clear() }
    }

    override fun onStart() {
        super.onStart()
        answering.attach(::show)
    }

    override fun onStop() {
        answering.detach()
        super.onStop()
    }

    private fun send() {
        val field = view(R.id.question) as EditText
        val question = field.text.toString().trim()
        if (question.isEmpty()) return
        // The picture goes with the first question; the model still sees it afterwards.
        val first = answering.conversation.turns.isEmpty()
        answering.ask(question, app.viewer.file.takeIf { first && app.viewer.hasPicture })
        field.setText("")
    }

    private fun show() {
        val text = answering.conversation.turns.joinToString("\n\n") { turn ->
            val line = getString(if (turn.fromUser) R.string.ask_you else R.string.ask_model, turn.text)
            val picture = if (turn.image != null) " " + getString(R.string.ask_with_picture) else ""
            val cut = if (!turn.fromUser && !turn.complete && !answering.running) " " + getString(R.string.ask_cut_off) else ""
            line + picture + cut
        }
        (view(R.id.conversation) as TextView).text = text
        (view(R.id.message) as TextView).text = answering.message
        visible(R.id.send, !answering.running)
        visible(R.id.stop, answering.running)
        visible(R.id.resume, !answering.running && answering.conversation.resumable)
        view(R.id.clear).isEnabled = !answering.running
        val scroll = view(R.id.scroll) as ScrollView
        scroll.post { scroll.fullScroll(View.FOCUS_DOWN) }
    }

    private fun visible(id: Int, yes: Boolean) {
        view(id).visibility = if (yes) View.VISIBLE else View.GONE
    }
}
