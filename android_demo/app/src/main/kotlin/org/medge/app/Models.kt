package org.medge.app

import android.content.Context
import android.os.Build
import android.os.Handler
import android.os.Looper
import org.medge.core.Bundle
import org.medge.core.BundleStore
import org.medge.core.Cache
import org.medge.core.Chat
import org.medge.core.Encoder
import org.medge.core.Engine
import org.medge.core.Fit
import org.medge.core.Golden
import org.medge.core.Kind
import org.medge.core.MedgeException
import org.medge.core.Plan
import org.medge.core.Planner
import org.medge.core.Problem
import org.medge.core.Progress
import org.medge.core.ProviderChoice
import org.medge.core.ProviderTrial
import org.medge.core.Storage
import org.medge.core.Trust
import org.medge.core.VectorIndex
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors

/** A language model in memory. */
class Reader(val engine: Engine, val chat: Chat, val threads: Int, val plan: Plan)

/** The bundles on this phone and the models in memory; each model is used on its own thread only. */
class Models(private val app: MedgeApp) {
    private val settings = app.getSharedPreferences(SETTINGS, Context.MODE_PRIVATE)
    private val main = Handler(Looper.getMainLooper())
    private val images = Executors.newSingleThreadExecutor()
    private val texts = Executors.newSingleThreadExecutor()
    private var encoder: Encoder? = null
    @Volatile private var reader: Reader? = null
    private var index: VectorIndex? = null
    val store = BundleStore(File(app.filesDir, "bundles").apply { mkdirs() }, ::trust)

    /** Do [work] with the images' model's thread, then [done] or [failed] on the main thread. */
    fun <T> onImages(work: () -> T, failed: (MedgeException) -> Unit, done: (T) -> Unit) = images.execute { deliver(work, failed, done) }

    /**
     * The same with the language model's thread. Before the model is loaded, the images' one is put away: a phone has room for one.
     *
     * The images' thread may wait for this one, never the other way round.
     */
    fun <T> onTexts(work: () -> T, failed: (MedgeException) -> Unit, done: (T) -> Unit) = images.execute {
        if (reader == null) closeEncoder()
        texts.execute { deliver(work, failed, done) }
    }

    fun onMain(action: () -> Unit) {
        main.post(action)
    }

    private fun <T> deliver(work: () -> T, failed: (MedgeException) -> Unit, done: (T) -> Unit) {
        try {
            val result = work()
            main.post { done(result) }
        } catch (error: MedgeException) {
            main.post { failed(error) }
        } catch (error: OutOfMemoryError) {
            main.post { failed(MedgeException(Problem.LOW_MEMORY, cause = error)) }
        }
    }

    /** The encoder in use, opened; on the images' thread. @throws MedgeException there is none, or it can't be opened */
    fun encoder(): Encoder {
        encoder?.let { return it }
        val bundle = store.current(Kind.ENCODER) ?: throw MedgeException(Problem.NO_MANIFEST)
        if (!plan(bundle).fits) closeReaderAndWait() // after the answer that it may be writing
        plan(bundle).checked()
        return Encoder(bundle, app.device().threads, provider(bundle)).also { encoder = it }
    }

    /** What the vision tower runs on; tried once for each bundle, at its import. */
    fun provider(bundle: Bundle): String {
        val key = "provider/" + bundle.manifest.fingerprint
        settings.getString(key, null)?.let { return it }
        val candidates = listOf(ProviderChoice.CPU, "xnnpack") + if (Build.VERSION.SDK_INT >= 27) listOf("nnapi") else emptyList()
        return ProviderTrial.choose(bundle, app.device().threads, candidates).also { settings.edit().putString(key, it).apply() }
    }

    /** Saved pictures of the encoder in use; on the images' thread. */
    fun index(): VectorIndex {
        index?.let { return it }
        val manifest = encoder().bundle.manifest
        val file = File(app.filesDir, "pictures-" + manifest.digest.take(16))
        return VectorIndex(file, manifest.fingerprint, manifest.encoder!!.embeddingSize).also { index = it }
    }

    /** The language model in use, opened; on its thread. @throws MedgeException there is none, or it does not run here, or can't be opened */
    fun reader(): Reader {
        reader?.let { return it }
        val bundle = store.current(Kind.GENERATOR) ?: throw MedgeException(Problem.NO_MANIFEST)
        val plan = plan(bundle).checked()
        return open(bundle, plan, plan.context, plan.cache).also { reader = it }
    }

    private fun open(bundle: Bundle, plan: Plan, context: Int, cache: Cache): Reader {
        val device = app.device()
        val variant = device.llamaVariant ?: throw MedgeException(Problem.NO_LANGUAGE_ENGINE, device.abi)
        val facts = bundle.manifest.generator!!
        val batch = maxOf(Planner.BATCH, facts.imageTokens)
        val engine = Engine(bundle.path("language")!!, bundle.eyes, context, device.threads, batch, cache, plan.fit == Fit.FROM_STORAGE) {
            System.loadLibrary("medge_llama_$variant")
        }
        return Reader(engine, Chat(engine, bundle.manifest), device.threads, plan)
    }

    /** Give memory back; models are opened again when they are needed. Waits its turn on each model's thread. */
    fun unload(answering: Answering) {
        answering.cancel()
        images.execute { closeEncoder() }
        texts.execute { closeReader() }
    }

    private fun closeEncoder() {
        encoder?.close()
        encoder = null
        index = null
    }

    private fun closeReader() {
        reader?.engine?.close()
        reader = null
    }

    private fun closeReaderAndWait() {
        val closed = CountDownLatch(1)
        texts.execute { closeReader(); closed.countDown() }
        closed.await()
    }

    /** Import a bundle and use it from now on. Other models are put away first: both may not fit. [warned] says why it would be refused where the policy is to warn. */
    fun import(
        source: TreeSource,
        progress: (Progress?) -> Unit,
        warned: (MedgeException) -> Unit,
        failed: (MedgeException) -> Unit,
        done: (Bundle) -> Unit,
    ) {
        var shown = 0L
        onImages({
            closeEncoder()
            closeReaderAndWait()
            val bundle = store.import(source, app.device(), ::accept, { main.post { warned(it) } }) {
                if (it.done - shown > 1_000_000 || it.done == it.total) {
                    shown = it.done
                    main.post { progress(if (it.done == it.total) null else it) }
                }
            }
            if (bundle.manifest.kind == Kind.ENCODER) provider(bundle)
            bundle
        }, failed, done)
    }

    /**
     * Whose bundles are imported, as the app's makers decided: the folder `trust` among its assets, which the APK's own signature
     * covers; null where it has none.
     */
    private fun trust(): Trust? {
        val folder = File(app.noBackupFilesDir, "trust")
        folder.deleteRecursively()
        val names = app.assets.list("trust").orEmpty().filter { it.endsWith(".json") }.map { "trust/$it" } +
            app.assets.list("trust/keys").orEmpty().map { "trust/keys/$it" }
        if (names.isEmpty()) return null
        for (name in names) {
            val file = File(app.noBackupFilesDir, name).apply { parentFile!!.mkdirs() }
            app.assets.open(name).use { from -> file.outputStream().use { from.copyTo(it) } }
        }
        return Trust.open(folder)
    }

    /** @throws MedgeException this phone does not compute what a bundle promises */
    private fun accept(bundle: Bundle) {
        if (bundle.manifest.kind == Kind.ENCODER) {
            Encoder(bundle, app.device().threads).use(Golden::replay)
            return
        }
        val opened = open(bundle, plan(bundle), Planner.LEAST_CONTEXT, Cache.F16)
        opened.engine.use {
            Golden.replay(it, opened.chat, bundle)
            // While the model has its memory, so that little of the file is kept in there.
            if (opened.plan.fit == Fit.FROM_STORAGE) settings.edit().putLong(STORAGE_SPEED, Storage.speed(bundle.path("language")!!)).apply()
        }
    }

    /** How a bundle would run here; a language model that is open, how it does: what it takes is no longer free. */
    fun plan(bundle: Bundle): Plan =
        reader?.plan?.takeIf { bundle.manifest.kind == Kind.GENERATOR } ?: Planner.plan(bundle.manifest, app.device())
}
