package org.medge.app

import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.os.Bundle
import android.provider.MediaStore
import android.view.View
import android.view.ViewGroup
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.EditText
import android.widget.ImageView
import android.widget.Spinner
import android.widget.TextView
import org.medge.core.Finding
import org.medge.core.MedgeException
import org.medge.core.Problem
import org.medge.core.Says
import org.medge.core.Score

/** The first screen: a picture, what is said of it, its neighbours. */
class MainActivity : Activity() {
    private val app get() = application as MedgeApp
    private val viewer get() = app.viewer
    private var every = false // every label, or the first ones

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        every = state?.getBoolean(EVERY) ?: false
        if (state == null && !viewer.hasPicture) viewer.forget() else viewer.restore()
        for (id in listOf(R.id.open, R.id.open_first)) on(id) { pick() }
        for (id in listOf(R.id.photo, R.id.photo_first)) on(id) { photograph() }
        for (id in listOf(R.id.ask, R.id.ask_first)) on(id) { startActivity(Intent(this, AskActivity::class.java)) }
        for (id in listOf(R.id.bundles, R.id.bundles_first)) on(id) { startActivity(Intent(this, BundlesActivity::class.java)) }
        on(R.id.save) { viewer.save() }
        on(R.id.scores_more) { every = true; showScores() }
        on(R.id.delete_labels) { viewer.list?.let { viewer.lists.delete(it); viewer.choose(null); fillLists() } }
    }

    private fun on(id: Int, action: () -> Unit) = view(id).setOnClickListener { action() }

    override fun onStart() {
        super.onStart()
        fillLists()
        viewer.attach(::show)
    }

    override fun onSaveInstanceState(state: Bundle) {
        state.putBoolean(EVERY, every)
        super.onSaveInstanceState(state)
    }

    override fun onStop() {
        viewer.detach()
        super.onStop()
    }

    private fun show() {
        val shown = viewer.thumbnail
        (view(R.id.picture) as ImageView).setImageBitmap(shown)
        visible(R.id.picture, shown != null)
        visible(R.id.empty, shown == null && !viewer.working)
        // What is in the card of an empty screen need not be in the bar, too.
        for (id in listOf(R.id.open, R.id.photo)) visible(id, shown != null || viewer.working)
        visible(R.id.ask_bar, shown != null)
        visible(R.id.answers, viewer.hasPicture)
        viewIfAny(R.id.beside)?.show(shown != null) // where answers have a column of their own
        showMessage()
        showScores()
        showSimilar()
        view(R.id.save).isEnabled = viewer.hasPicture && !viewer.working
        for (id in listOf(R.id.open, R.id.photo, R.id.open_first, R.id.photo_first)) view(id).isEnabled = !viewer.working
        visible(R.id.delete_labels, viewer.list != null)
    }

    /** What is being done, was done or went wrong; the last on a ground that asks for attention. */
    private fun showMessage() {
        val message = text(R.id.message)
        message.say(viewer.message)
        view(R.id.told).frame(message, viewer.failed)
        visible(R.id.told, viewer.message.isNotEmpty())
        visible(R.id.working, viewer.working)
        visible(R.id.bundles_first, viewer.lacksModel)
    }

    /** The answer in words, then each label's; of a picture unlike all that is known, that and no label. */
    private fun showScores() {
        val decision = viewer.decision
        val findings = decision?.findings.orEmpty().associateBy { it.label }
        val unlike = decision?.unlike == true
        text(R.id.scores_decision).say(answer(findings.values, unlike))
        text(R.id.scores_kind).say(
            when {
                viewer.scores.isEmpty() -> ""
                unlike -> getString(R.string.decision_unlike)
                findings.isEmpty() -> getString(R.string.decision_none)
                decision?.kind.orEmpty().isEmpty() -> getString(R.string.decision_calibrated)
                else -> getString(R.string.decision_kind, decision!!.kind)
            },
        )
        val rows = view(R.id.scores) as ViewGroup
        rows.removeAllViews()
        val scores = if (unlike) emptyList() else viewer.scores.sortedBy { rank(findings[it.label]?.says) }
        val count = if (every) scores.size else scores.count { findings[it.label]?.says == Says.PRESENT }.coerceAtLeast(FIRST)
        for (score in scores.take(count)) {
            val finding = findings[score.label]
            val probability = finding?.probability?.toFloat()
            val share = probability ?: share(score)
            val much = if (probability == null && score.softmax == null && score.sigmoid == null) decimals(score.cosine) else percent(share)
            rows.addRow(score.label, finding?.let { said(it.says) }, share, much, numbers(score))
        }
        (view(R.id.scores_more) as TextView).say(if (scores.size > count) getString(R.string.scores_more, "${scores.size - count}") else "")
        text(R.id.scores_hint).say(scores.firstOrNull()?.let(::hint).orEmpty())
    }

    private fun answer(findings: Collection<Finding>, unlike: Boolean): String {
        fun those(says: Says) = findings.filter { it.says == says }.joinToString(", ") { it.label }
        return when {
            viewer.scores.isEmpty() -> ""
            unlike -> getString(R.string.answer_unlike)
            findings.isEmpty() -> getString(R.string.answer_likely, viewer.scores[0].label)
            those(Says.PRESENT).isNotEmpty() -> getString(R.string.answer_present, those(Says.PRESENT))
            those(Says.UNCERTAIN).isNotEmpty() -> getString(R.string.answer_uncertain, those(Says.UNCERTAIN))
            those(Says.ABSENT).isNotEmpty() -> getString(R.string.answer_absent)
            else -> getString(R.string.answer_likely, viewer.scores[0].label)
        }
    }

    /** Present labels come first, absent ones last. */
    private fun rank(says: Says?) = when (says) {
        Says.PRESENT -> 0
        Says.UNCERTAIN -> 1
        Says.ABSENT -> 3
        Says.NOT_CALIBRATED, null -> 2
    }

    private fun said(says: Says) = when (says) {
        Says.PRESENT -> Said(getString(R.string.says_present), R.color.paper, R.drawable.chip_present, R.color.accent)
        Says.ABSENT -> Said(getString(R.string.says_absent), R.color.soft, R.drawable.chip_absent, R.color.edge)
        Says.UNCERTAIN -> Said(getString(R.string.says_uncertain), R.color.warn, R.drawable.chip_uncertain, R.color.warn)
        Says.NOT_CALIBRATED -> Said(getString(R.string.says_not_calibrated), R.color.soft, null, R.color.edge)
    }

    /** How long the bar of a score is that is not calibrated. */
    private fun share(score: Score): Float = score.softmax ?: score.sigmoid ?: ((score.cosine + 1) / 2)

    private fun numbers(score: Score): String = listOfNotNull(
        score.softmax?.let { getString(R.string.scores_which, percent(it)) },
        score.sigmoid?.let { getString(R.string.scores_holds, percent(it)) },
    ).joinToString(" · ")

    private fun hint(score: Score): String = getString(
        when {
            score.softmax != null && score.sigmoid != null -> R.string.scores_hint
            score.softmax != null -> R.string.scores_hint_which
            score.sigmoid != null -> R.string.scores_hint_holds
            else -> R.string.scores_hint_similarity
        },
    )

    private fun showSimilar() {
        val rows = view(R.id.similar) as ViewGroup
        rows.removeAllViews()
        for (hit in viewer.similar) rows.addRow(hit.name, null, hit.cosine, decimals(hit.cosine), "")
        visible(R.id.similar_none, viewer.similar.isEmpty())
    }

    private fun fillLists() {
        val names = listOf(getString(R.string.labels_of_bundle)) + viewer.lists.names + getString(R.string.labels_new)
        val spinner = view(R.id.labels) as Spinner
        spinner.onItemSelectedListener = null
        spinner.adapter = ArrayAdapter(this, R.layout.choice, names)
        spinner.setSelection(maxOf(0, names.indexOf(viewer.list ?: names[0])), false)
        spinner.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = when (position) {
                0 -> viewer.choose(null)
                names.size - 1 -> newList()
                else -> viewer.choose(names[position])
            }

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
    }

    private fun newList() {
        val form = layoutInflater.inflate(R.layout.labels, null)
        val name = form.view(R.id.name) as EditText
        val lines = form.view(R.id.lines) as EditText
        AlertDialog.Builder(this).setTitle(R.string.labels_new).setView(form)
            .setPositiveButton(R.string.labels_save) { _, _ ->
                try {
                    viewer.choose(viewer.lists.write(name.text.toString(), lines.text.toString()))
                } catch (error: MedgeException) {
                    viewer.fail(error)
                }
            }
            .setNegativeButton(R.string.cancel, null)
            .setOnDismissListener { fillLists() }
            .show()
    }

    private fun pick() {
        // DICOM has no type of its own on most phones, hence every type.
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")
        start(intent, PICK, Problem.IMAGE_UNREADABLE)
    }

    private fun photograph() {
        val uri = CaptureProvider.uriOf(this)
        CaptureProvider.file(this).delete()
        val intent = Intent(MediaStore.ACTION_IMAGE_CAPTURE).putExtra(MediaStore.EXTRA_OUTPUT, uri)
            .addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION or Intent.FLAG_GRANT_READ_URI_PERMISSION)
        intent.clipData = ClipData.newRawUri("", uri)
        start(intent, PHOTO, Problem.NO_CAMERA)
    }

    private fun start(intent: Intent, request: Int, problem: Problem) {
        try {
            startActivityForResult(intent, request)
        } catch (_: ActivityNotFoundException) {
            viewer.fail(MedgeException(problem))
        } catch (_: SecurityException) { // a policy of the phone's owner
            viewer.fail(MedgeException(problem))
        }
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        if (result != RESULT_OK) return
        when (request) {
            PICK -> data?.data?.let(viewer::open)
            PHOTO -> if (CaptureProvider.file(this).length() > 0) viewer.open(CaptureProvider.uriOf(this)) else viewer.finish(getString(R.string.camera_failed))
        }
    }

    private companion object {
        const val PICK = 1
        const val PHOTO = 2
        const val FIRST = 6
        const val EVERY = "every"
    }
}
