package org.medge.app

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.os.Bundle
import android.widget.ProgressBar
import org.medge.core.Kind
import org.medge.core.Manifest
import org.medge.core.MedgeException
import org.medge.core.Problem
import org.medge.core.Progress

/** The models on this phone: what they are, what they need, and how new ones come in. */
class BundlesActivity : Activity() {
    private val app get() = application as MedgeApp

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.bundles)
        view(R.id.import_bundle).setOnClickListener { pick() }
        view(R.id.back).setOnClickListener { onBackPressed() }
        view(R.id.discard).setOnClickListener { app.models.onImages({ app.models.store.discardPartial() }, ::fail) { show() } }
    }

    override fun onStart() {
        super.onStart()
        current = this
        show()
    }

    override fun onStop() {
        if (current === this) current = null
        super.onStop()
    }

    private fun show() {
        val device = app.device()
        text(R.id.memory).text = getString(R.string.bundles_memory, device.memoryTotal / MB, device.room / MB, filesDir.usableSpace / MB)
        val encoder = bundle(Kind.ENCODER)
        val generator = bundle(Kind.GENERATOR)
        text(R.id.encoder).text = encoder?.manifest?.name ?: getString(R.string.bundles_none)
        text(R.id.encoder_facts).text =
            encoder?.manifest?.let { warned(it, getString(R.string.bundles_encoder_facts, it.bytes / MB)) } ?: getString(R.string.bundles_none_encoder)
        text(R.id.generator).text = generator?.manifest?.name ?: getString(R.string.bundles_none)
        text(R.id.generator_facts).text = generator?.let {
            val plan = app.models.plan(it)
            val facts = warned(it.manifest, getString(R.string.bundles_generator_facts, it.manifest.bytes / MB, plan.context))
            listOf(facts, warning(plan)).filter(String::isNotEmpty).joinToString("\n")
        } ?: getString(R.string.bundles_none_generator)
        val licence = (encoder ?: generator)?.manifest?.licence.orEmpty()
        text(R.id.licence).text = licence
        visible(R.id.licence_card, licence.isNotEmpty())
        text(R.id.message).say(message)
        view(R.id.told).frame(text(R.id.message), failed)
        visible(R.id.told, message.isNotEmpty())
        view(R.id.import_bundle).isEnabled = !importing
        view(R.id.discard).isEnabled = !importing
        visible(R.id.progress, importing)
        (view(R.id.progress) as ProgressBar).progress = share
    }

    /** A line about a bundle, with what its measurement warns of. */
    private fun warned(manifest: Manifest, line: String) =
        if (manifest.warnings.isEmpty()) line else getString(R.string.bundles_warning, line.trimEnd('.'), manifest.warnings.joinToString("; "))

    private fun bundle(kind: Kind) = try {
        app.models.store.current(kind)
    } catch (error: MedgeException) {
        message = explain(error)
        failed = true
        null
    }

    private fun pick() {
        try {
            startActivityForResult(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), PICK)
        } catch (_: ActivityNotFoundException) {
            fail(MedgeException(Problem.NO_MANIFEST))
        }
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        val tree = data?.data ?: return
        if (request != PICK || result != RESULT_OK) return
        importing = true
        failed = false
        share = 0
        message = getString(R.string.working)
        show()
        val context = app
        var warning = ""
        app.models.import(TreeSource(contentResolver, tree), { at -> context.report(at) }, { warning = "\n" + context.explain(it) }, { error ->
            end(context.explain(error), problem = true)
        }) { bundle ->
            val runs = if (bundle.manifest.kind == Kind.ENCODER) "\n" + context.getString(R.string.bundles_provider, context.models.provider(bundle)) else ""
            end(context.getString(R.string.bundles_done, bundle.manifest.name) + warning + runs)
        }
    }

    private fun fail(error: MedgeException) = end(explain(error), problem = true)

    /** An import outlives the screen that began it: its state is the process's. */
    private companion object {
        const val PICK = 1
        const val MB = 1_000_000L
        var importing = false
        var share = 0
        var message = ""
        var failed = false
        var current: BundlesActivity? = null

        fun MedgeApp.report(at: Progress?) {
            message = if (at == null) getString(R.string.bundles_checking) else getString(R.string.bundles_copying, at.path, at.done / MB, at.total / MB)
            share = if (at == null) 1000 else (at.done * 1000 / at.total).toInt()
            current?.show()
        }

        fun end(text: String, problem: Boolean = false) {
            importing = false
            failed = problem
            message = text
            current?.show()
        }
    }
}
