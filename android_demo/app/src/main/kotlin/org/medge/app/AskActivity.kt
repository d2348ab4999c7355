package org.medge.app

import android.app.Activity
import android.os.Bundle
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.ScrollView
import android.widget.TextView
import org.medge.core.Turn

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
        view(R.id.back).setOnClickListener { onBackPressed() }
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
        val turns = answering.conversation.turns
        val rows = view(R.id.conversation) as ViewGroup
        // While an answer is written, only its last row changes.
        if (rows.childCount > turns.size) rows.removeAllViews()
        for ((index, turn) in turns.withIndex()) {
            if (index == rows.childCount) layoutInflater.inflate(if (turn.fromUser) R.layout.turn_user else R.layout.turn_model, rows)
            show(turn, rows.getChildAt(index), answering.running && index == turns.size - 1)
        }
        visible(R.id.empty, turns.isEmpty())
        val message = text(R.id.message)
        message.say(if (answering.running && answering.message.isEmpty()) getString(R.string.ask_answering) else answering.message)
        view(R.id.told).frame(message, answering.message.isNotEmpty() && !answering.reading, plain = 0)
        visible(R.id.told, message.text.isNotEmpty())
        visible(R.id.working, answering.running)
        visible(R.id.send, !answering.running)
        visible(R.id.stop, answering.running)
        visible(R.id.resume, !answering.running && answering.conversation.resumable)
        view(R.id.clear).isEnabled = !answering.running
        visible(R.id.clear, turns.isNotEmpty())
        val scroll = view(R.id.scroll) as ScrollView
        scroll.isSmoothScrollingEnabled = false // an answer grows many times a second
        scroll.post { scroll.fullScroll(View.FOCUS_DOWN) }
    }

    private fun show(turn: Turn, row: View, growing: Boolean) {
        val words = row.view(R.id.text) as TextView
        if (words.text.toString() != turn.text) words.text = turn.text
        words.show(turn.text.isNotEmpty())
        words.contentDescription = getString(if (turn.fromUser) R.string.ask_said_by_user else R.string.ask_said_by_model, turn.text)
        val note = when {
            turn.image != null -> R.string.ask_with_picture
            !turn.fromUser && !turn.complete && !growing && turn.text.isNotEmpty() -> R.string.ask_cut_off
            else -> 0
        }
        (row.view(R.id.note) as TextView).say(if (note == 0) "" else getString(note))
    }
}
