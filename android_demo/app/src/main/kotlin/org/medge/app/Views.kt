package org.medge.app

import android.app.Activity
import android.content.Context
import android.content.res.ColorStateList
import android.view.Gravity
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.TextView
import java.text.NumberFormat

// With a stated type, the same source compiles whether android.jar has the generic findViewById (from API 26 on) or not.

/** The view with this id. */
fun Activity.view(id: Int): View = findViewById(id)

/** The view with this id where this layout has it: some have one more column. */
fun Activity.viewIfAny(id: Int): View? = findViewById(id)

/** The view with this id, within this one. */
fun View.view(id: Int): View = findViewById(id)

/** The text with this id. */
fun Activity.text(id: Int): TextView = view(id) as TextView

/** Show the view with this id, or give its place away. */
fun Activity.visible(id: Int, yes: Boolean) = view(id).show(yes)

fun View.show(yes: Boolean) {
    visibility = if (yes) View.VISIBLE else View.GONE
}

/** Set a text, and show it where it says something. */
fun TextView.say(words: CharSequence) {
    text = words
    show(words.isNotEmpty())
}

/** A colour of the theme of the day or the night. */
fun Context.colour(id: Int): Int = resources.getColor(id, theme)

/** A share as the pages in the browser write it. */
fun percent(share: Float): String = NumberFormat.getPercentInstance().apply { minimumFractionDigits = 1; maximumFractionDigits = 1 }.format(share.toDouble())

/** Three decimals, in the user's language. */
fun decimals(number: Float): String = NumberFormat.getNumberInstance().apply { minimumFractionDigits = 3; maximumFractionDigits = 3 }.format(number.toDouble())

/** From this scale of fonts on, a label and what is said of it stand below each other. */
private const val LARGE = 1.2f

/** What a row says of its label: words, and the colours and the frame of the words. */
class Said(val words: String, val colour: Int, val background: Int?, val bar: Int)

/** Add a row with a label, what is said of it, a bar as long as [share] of 1, how [much] that is, and other [numbers]. */
fun ViewGroup.addRow(label: String, said: Said?, share: Float, much: String, numbers: String) {
    val row = LayoutInflater.from(context).inflate(R.layout.score_row, this, false)
    val name = row.view(R.id.label) as TextView
    name.text = label
    if (resources.configuration.fontScale > LARGE) { // beside each other there is no room
        val head = row.view(R.id.head) as LinearLayout
        head.orientation = LinearLayout.VERTICAL
        head.setGravity(Gravity.START)
        name.layoutParams = LinearLayout.LayoutParams(ViewGroup.LayoutParams.MATCH_PARENT, ViewGroup.LayoutParams.WRAP_CONTENT)
    }
    val says = row.view(R.id.says) as TextView
    says.say(said?.words.orEmpty())
    if (said != null) {
        says.setTextColor(context.colour(said.colour))
        if (said.background != null) says.setBackgroundResource(said.background)
    }
    val bar = row.view(R.id.share) as ProgressBar
    bar.progress = (share.coerceIn(0f, 1f) * bar.max).toInt()
    bar.progressTintList = ColorStateList.valueOf(context.colour(said?.bar ?: R.color.accent))
    (row.view(R.id.much) as TextView).text = much
    (row.view(R.id.numbers) as TextView).say(numbers)
    val told = listOf(much, numbers).filter { it.isNotEmpty() }.joinToString(". ")
    row.contentDescription = if (said == null) "$label. $told" else context.getString(R.string.score_said, label, said.words, told)
    addView(row)
}

/** Put a card with a message on the ground that asks for attention where it tells of a problem, else on [plain], or on none where that is 0. */
fun View.frame(message: TextView, problem: Boolean, plain: Int = R.drawable.card) {
    val ground = if (problem) R.drawable.told else plain
    val side = if (ground == 0) 0 else resources.getDimensionPixelSize(R.dimen.inside)
    setBackgroundResource(ground)
    setPadding(side, side, side, side)
    message.setTextColor(context.colour(if (problem) R.color.on_caution else R.color.ink))
}
