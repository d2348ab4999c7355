package org.medge.app

import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.os.Bundle
import android.provider.MediaStore
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.EditText
import android.widget.ImageView
import android.widget.Spinner
import android.widget.TextView
import org.medge.core.MedgeException
import org.medge.core.Problem
import org.medge.core.Says
import org.medge.core.Score
import java.text.NumberFormat

/** The first screen: a picture, its scores, its neighbours. */
class MainActivity : Activity() {
    private val app get() = application as MedgeApp
    private val viewer get() = app.viewer
    private val decimals: NumberFormat = NumberFormat.getNumberInstance().apply { minimumFractionDigits = 3; maximumFractionDigits = 3 }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        if (state == null && !viewer.hasPicture) viewer.forget() else viewer.restore()
        on(R.id.open) { pick() }
        on(R.id.photo) { photograph() }
        on(R.id.save) { viewer.save() }
        on(R.id.ask) { startActivity(Intent(this, AskActivity::class.java)) }
        on(R.id.bundles) { startActivity(Intent(this, BundlesActivity::class.java)) }
        on(R.id.delete_labels) { viewer.list?.let { viewer.lists.delete(it); viewer.choose(null); fillLists() } }
    }

    private fun on(id: Int, action: () -> Unit) = view(id).setOnClickListener { action() }

    override fun onStart() {
        super.onStart()
        fillLists()
        viewer.attach(::show)
    }

    override fun onStop() {
        viewer.detach()
        super.onStop()
    }

    private fun text(id: Int) = view(id) as TextView

    private fun show() {
        (view(R.id.picture) as ImageView).setImageBitmap(viewer.thumbnail)
        text(R.id.message).text = viewer.message
        showScores()
        text(R.id.scores_hint).text = viewer.scores.firstOrNull().let {
            when {
                it == null || (it.softmax != null && it.sigmoid != null) -> getString(R.string.scores_hint)
                it.softmax != null -> getString(R.string.scores_hint_which)
                it.sigmoid != null -> getString(R.string.scores_hint_holds)
                else -> getString(R.string.scores_hint_similarity)
            }
        }
        text(R.id.similar).text = if (viewer.similar.isEmpty()) getString(R.string.similar_none) else viewer.similar.joinToString("\n") {
            getString(R.string.similar_line, it.name, decimals.format(it.cosine))
        }
        view(R.id.save).isEnabled = viewer.hasPicture && !viewer.working
        view(R.id.open).isEnabled = !viewer.working
        view(R.id.photo).isEnabled = !viewer.working
        view(R.id.delete_labels).visibility = if (viewer.list != null) View.VISIBLE else View.GONE
    }

    /** The scores, with what they say where they are calibrated; of a picture unlike all, that and no label. */
    private fun showScores() {
        val decision = viewer.decision
        val says = decision?.findings.orEmpty().associate { it.label to it.says }
        val unlike = decision?.unlike == true
        text(R.id.scores).text = if (unlike) "" else viewer.scores.joinToString("\n") { score ->
            says[score.label]?.let { getString(R.string.decision_line, numbers(score), getString(textOf(it))) } ?: numbers(score)
        }
        text(R.id.scores_decision).text = when {
            viewer.scores.isEmpty() -> ""
            unlike -> getString(R.string.decision_unlike)
            says.isEmpty() -> getString(R.string.decision_none)
            decision?.kind.orEmpty().isEmpty() -> getString(R.string.decision_calibrated)
            else -> getString(R.string.decision_kind, decision!!.kind)
        }
    }

    private fun numbers(score: Score): String {
        val which = score.softmax?.let(decimals::format)
        val holds = score.sigmoid?.let(decimals::format)
        return when {
            which != null && holds != null -> getString(R.string.score_line, score.label, which, holds)
            which != null -> getString(R.string.score_line_single, score.label, which)
            holds != null -> getString(R.string.score_line_single, score.label, holds)
            else -> getString(R.string.similar_line, score.label, decimals.format(score.cosine))
        }
    }

    private fun textOf(says: Says): Int = when (says) {
        Says.PRESENT -> R.string.says_present
        Says.ABSENT -> R.string.says_absent
        Says.UNCERTAIN -> R.string.says_uncertain
        Says.NOT_CALIBRATED -> R.string.says_not_calibrated
    }

    private fun fillLists() {
        val names = listOf(getString(R.string.labels_of_bundle)) + viewer.lists.names + getString(R.string.labels_new)
        val spinner = view(R.id.labels) as Spinner
        spinner.onItemSelectedListener = null
        spinner.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, names)
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
    }
}
