package org.medge.core

import com.google.gson.JsonObject
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File
import java.io.FileNotFoundException
import java.io.FilterInputStream
import java.io.IOException
import java.io.InputStream
import kotlin.random.Random

/** Bundles made here: small files, a manifest that is right. */
internal class MadeBundle(val folder: File, parity: String = "passed", format: Int = 2, vararg extra: Pair<String, ByteArray>) {
    val files = mapOf("onnx/vision_model.onnx" to ByteArray(300_000) { (it * 7).toByte() }, "golden.safetensors" to ByteArray(5000) { it.toByte() }) + extra

    init {
        for ((path, bytes) in files) File(folder, path).apply { parentFile.mkdirs() }.writeBytes(bytes)
        writeManifest(folder, parity, format)
    }

    fun writeManifest(into: File, parity: String = "passed", format: Int = 2, name: String = "tiny", change: (String) -> String = { it }) {
        val entries = files.entries.joinToString(",") { (path, bytes) ->
            val role = if (path.endsWith(".onnx")) "vision" else if ('.' in path) path.substringBefore('.') else path
            """{"path":"$path","role":"$role","bytes":${bytes.size},"sha256":"${sha256(bytes)}"}"""
        }
        val text =
            """{"name":"$name","format_version":$format,"kind":"encoder","target":"arm-dotprod","licence":"é",
            "preprocessing":{"profile":"eval-tf","mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]},
            "model":{"family":"siglip","embedding_size":64,"image_size":112,"patch_size":16,"vocabulary":9,
            "tokenizer":{"length":64,"end_id":1,"pad_id":1},"logit_scale":10.5,"logit_bias":-1.25,"parameters":1000},
            "artefacts":{"onnx":{"parity":{"status":"$parity","x":1e-07},"towers":{"vision":{"recipe":"int8","file":"onnx/vision_model.onnx",
            "format":"onnx","golden":{"statistic":"min","cosine":0.999},"inputs":["pixel_values"],"output":"pooler_output"}}}},
            "files":[$entries]"""
        val changed = change(text)
        File(into, Manifest.NAME).writeText(changed + Manifest.seal(changed.toByteArray()))
    }
}

class BundleTest {
    private val folder = temporaryFolder()
    private val source = File(folder, "stick").apply { mkdirs() }
    private val root = File(folder, "app").apply { mkdirs() }
    private val big = phone(6.0)

    @After
    fun clean() {
        folder.deleteRecursively()
    }

    @Test
    fun aRealManifestIsReadAndItsDigestHolds() {
        val bundle = GoldenFiles.encoder().bundle
        bundle.verify()
        assertEquals("eval-tf", bundle.manifest.images.profile)
        assertTrue(bundle.manifest.licence.contains("Not a medical device"))
    }

    @Test
    fun aChangedManifestIsNoticed() {
        MadeBundle(source)
        val file = File(source, Manifest.NAME)
        file.writeText(file.readText().replace("eval-tf", "hf-bicubic"))
        assertProblem(Problem.MANIFEST_CHANGED) { Bundle.open(source) }
        file.writeText("""{"format_version":2}""")
        assertProblem(Problem.MANIFEST_CHANGED) { Bundle.open(source) }
        file.writeText("{")
        assertProblem(Problem.MANIFEST_DAMAGED) { Bundle.open(source) }
        file.delete()
        assertProblem(Problem.NO_MANIFEST) { Bundle.open(source) }
    }

    @Test
    fun aBundleForANewerOrAnOlderAppSaysSo() {
        MadeBundle(source, format = 3)
        val newer = assertProblem(Problem.NEWER_FORMAT) { Bundle.open(source) }
        assertEquals(listOf<Any>(3, 2), newer.arguments.toList())
        MadeBundle(source, format = 1)
        val older = assertProblem(Problem.OLDER_FORMAT) { Bundle.open(source) }
        assertTrue(older.message!!.endsWith("Export the bundle again."))
    }

    @Test
    fun aManifestThatLacksOrMisnamesSomethingIsDamaged() {
        val made = MadeBundle(source)
        val changes = listOf(
            "\"end_id\"" to "\"last_id\"", "\"mean\":[0.5,0.5,0.5]" to "\"mean\":[0.5]", "\"mean\":[0.5,0.5,0.5]" to "\"mean\":[[],0,0]",
            "\"statistic\":\"min\"" to "\"statistic\":\"most\"", "\"artefacts\"" to "\"towers\"", "\"parameters\":1000" to "\"parameters\":\"many\"",
        )
        for ((from, to) in changes) {
            made.writeManifest(source) { it.replace(from, to).also { changed -> assertTrue(from, changed != it) } }
            assertProblem(Problem.MANIFEST_DAMAGED) { Bundle.open(source) }
        }
        made.writeManifest(source) { it.replace("\"kind\":\"encoder\"", "\"kind\":\"segmenter\"") }
        assertTrue(assertProblem(Problem.WRONG_KIND) { Bundle.open(source) }.message!!.contains("segmenter"))
        made.writeManifest(source) { it.replace("\"onnx\":{\"parity\"", "\"coreml\":{\"parity\"") }
        assertProblem(Problem.FOR_OTHER_DEVICES) { Bundle.open(source) }
    }

    @Test
    fun boundsNamesAndNumbersAreThoseOfTheManifest() {
        val bundle = GoldenFiles.encoder().bundle
        val body = parseJson(File(bundle.folder, Manifest.NAME).readText()) as JsonObject
        val towers = body.child("artefacts")!!.child("onnx")!!.child("towers")!!
        assertEquals(towers.keySet(), bundle.manifest.towers.keys)
        for ((name, tower) in bundle.manifest.towers) {
            val facts = towers.child(name)!!
            assertEquals(facts.child("golden")!!.number("cosine")!!, tower.golden.cosine, 0.0)
            assertEquals(facts.child("golden")!!.text("statistic"), tower.golden.statistic)
            assertEquals(facts.list("inputs")!!.map { it.asString }, tower.inputs)
            assertEquals(facts.text("output"), tower.output)
        }
        val tokenizer = body.child("model")!!.child("tokenizer")!!
        assertEquals(tokenizer.int("end_id"), bundle.manifest.encoder!!.tokenizer.endId)
        assertEquals(tokenizer.int("pad_id"), bundle.manifest.encoder.tokenizer.padId)
    }

    @Test
    fun aBundleWhoseGateFailedIsNotUsed() {
        MadeBundle(source, parity = "failed")
        assertProblem(Problem.PARITY_NOT_PASSED) { Bundle.open(source) }
        assertProblem(Problem.PARITY_NOT_PASSED) { BundleStore(root).import(FolderSource(source), big, {}) }
    }

    @Test
    fun pathsThatLeaveTheFolderAreRefused() {
        for (path in listOf("../x", "/etc/x", "a/../../x", "a//x", "a\\x", "")) assertFalse(path, Manifest.isInside(path))
        assertTrue(Manifest.isInside("onnx/vision_model.onnx"))
        MadeBundle(File(folder, "evil").apply { mkdirs() }, extra = arrayOf("../outside.bin" to ByteArray(4)))
        assertProblem(Problem.UNSAFE_PATH) { Bundle.open(File(folder, "evil")) }
    }

    @Test
    fun anImportCopiesChecksAndSwitches() {
        MadeBundle(source)
        val store = BundleStore(root)
        assertNull(store.current(Kind.ENCODER))
        val seen = ArrayList<Long>()
        var accepted = 0
        val bundle = store.import(FolderSource(source), big, { accepted++ }) { seen += it.done }
        bundle.verify()
        assertEquals(1, accepted)
        assertEquals(305_000L, seen.last())
        assertEquals(seen.sorted(), seen)
        assertEquals(bundle.folder, store.current(Kind.ENCODER)!!.folder)
        assertNull(store.current(Kind.GENERATOR))
    }

    @Test
    fun theOldBundleStaysUntilTheNewOneIsProven() {
        val made = MadeBundle(source)
        val store = BundleStore(root)
        val old = store.import(FolderSource(source), big, {})
        made.writeManifest(source, name = "second")
        assertProblem(Problem.COMPUTES_DIFFERENTLY) {
            store.import(FolderSource(source), big, { throw MedgeException(Problem.COMPUTES_DIFFERENTLY, "cosine 0.5") })
        }
        assertEquals(old.folder, store.current(Kind.ENCODER)!!.folder)
        val new = store.import(FolderSource(source), big, {})
        assertEquals("second", store.current(Kind.ENCODER)!!.manifest.name)
        assertFalse("the old one is gone", old.folder.exists())
        assertTrue(new.folder.exists())
    }

    /** Fails after so many bytes of one file, as a stick that is pulled out does. */
    private class Pulled(private val inner: BundleSource, private var left: Int) : BundleSource {
        val offsets = ArrayList<Pair<String, Long>>()

        override fun open(path: String, offset: Long): InputStream {
            if (path == Manifest.NAME) return inner.open(path, offset)
            offsets += path to offset
            val stream = inner.open(path, offset)
            return object : InputStream() {
                override fun read(): Int = throw IOException("single bytes are not read")

                override fun read(buffer: ByteArray, from: Int, count: Int): Int {
                    if (left <= 0) throw IOException("no such device")
                    val done = stream.read(buffer, from, minOf(count, left))
                    if (done > 0) left -= done
                    return done
                }
            }
        }
    }

    @Test
    fun anInterruptedCopyGoesOnWhereItStopped() {
        MadeBundle(source)
        val store = BundleStore(root)
        assertProblem(Problem.COPY_INTERRUPTED) { store.import(Pulled(FolderSource(source), 200_000), big, {}) }
        assertNull(store.current(Kind.ENCODER))
        val again = Pulled(FolderSource(source), Int.MAX_VALUE)
        store.import(again, big, {}).verify()
        assertEquals("onnx/vision_model.onnx" to 200_000L, again.offsets.first())
    }

    @Test
    fun anImportThatIsKilledLeavesAWholeBundleInUse() {
        val made = MadeBundle(source)
        val store = BundleStore(root)
        val draw = Random(16)
        var stopped = 0
        repeat(8) {
            made.writeManifest(source, name = "first")
            val first = store.import(FolderSource(source), big, {}).manifest.digest
            made.writeManifest(source, name = "second")
            val second = Manifest.parse(File(source, Manifest.NAME).readBytes()).digest
            val app = SlowImport.begin(source, root)
            Thread.sleep(draw.nextLong(SlowImport.MILLISECONDS))
            app.destroyForcibly().waitFor()
            val found = store.current(Kind.ENCODER)!!
            found.verify()
            if (found.manifest.digest == first) stopped++ else assertEquals(second, found.manifest.digest)
            store.import(FolderSource(source), big, {}).verify()
            assertEquals(second, store.current(Kind.ENCODER)!!.manifest.digest)
            assertEquals("nothing else is left", setOf(second.take(16), "current"), File(root, Kind.ENCODER.id).list()!!.toSet())
        }
        assertTrue("most were killed before the end", stopped > 4)
    }

    @Test
    fun aCopyThatWentWrongIsNotTakenUpAgain() {
        MadeBundle(source)
        val store = BundleStore(root)
        assertProblem(Problem.COPY_INTERRUPTED) { store.import(Pulled(FolderSource(source), 200_000), big, {}) }
        val partial = root.walk().first { it.name == "vision_model.onnx" }
        partial.writeBytes(partial.readBytes().also { it[1000] = 99 })
        assertTrue(assertProblem(Problem.FILE_CHANGED) { store.import(FolderSource(source), big, {}) }.message!!.contains("vision_model"))
        store.import(FolderSource(source), big, {}).verify()
    }

    @Test
    fun truncatedChangedAndMissingFilesAreNamed() {
        val made = MadeBundle(source)
        val model = File(source, "onnx/vision_model.onnx")
        model.writeBytes(made.files.getValue("onnx/vision_model.onnx").copyOf(1234))
        val error = assertProblem(Problem.FILE_TRUNCATED) { BundleStore(root).import(FolderSource(source), big, {}) }
        assertEquals(listOf<Any>("onnx/vision_model.onnx", 1234L, 300_000L), error.arguments.toList())
        assertProblem(Problem.FILE_TRUNCATED) { Bundle.open(source).verify() }
        model.writeBytes(ByteArray(300_000))
        assertProblem(Problem.FILE_CHANGED) { BundleStore(File(root, "b")).import(FolderSource(source), big, {}) }
        assertProblem(Problem.FILE_CHANGED) { Bundle.open(source).verify() }
        model.delete()
        assertProblem(Problem.FILE_MISSING) { BundleStore(File(root, "c")).import(FolderSource(source), big, {}) }
        assertProblem(Problem.FILE_MISSING) { Bundle.open(source).verify() }
        assertProblem(Problem.NO_MANIFEST) { BundleStore(root).import(FolderSource(folder), big, {}) }
    }

    @Test
    fun aFullDiskSaysHowMuchIsMissingAndKeepsWhatItHas() {
        MadeBundle(source)
        val error = assertProblem(Problem.DISK_FULL) { BundleStore(root, freeSpace = { 10L shl 20 }).import(FolderSource(source), big, {}) }
        assertEquals(24L, error.arguments.single()) // 33.6 MB are left for the system, 10.5 are there, 0.3 are needed
        assertNotNull(BundleStore(root).import(FolderSource(source), big, {}))
    }

    @Test
    fun aDiskThatFillsUpInTheMiddleKeepsWhatIsThere() {
        // /dev/full takes nothing: the write fails as on a full disk, whatever the free space was a moment before.
        MadeBundle(source)
        val store = BundleStore(root, freeSpace = { Long.MAX_VALUE })
        assertProblem(Problem.COPY_INTERRUPTED) { store.import(Pulled(FolderSource(source), 200_000), big, {}) }
        val partial = root.walk().first { it.name == "vision_model.onnx" }
        val golden = File(partial.parentFile.parentFile, "golden.safetensors")
        java.nio.file.Files.createSymbolicLink(golden.toPath(), File("/dev/full").toPath())
        assertProblem(Problem.DISK_FULL) { store.import(FolderSource(source), big, {}) }
        assertEquals(300_000L, partial.length())
        golden.delete()
        store.import(FolderSource(source), big, {}).verify()
    }

    @Test
    fun aBundleThatIsTooLargeForThePhoneIsRefusedBeforeItIsCopied() {
        MadeBundle(source)
        val tiny = Device(600_000_000, 150_000_000, 4, "arm64-v8a", emptySet())
        val error = assertProblem(Problem.TOO_LARGE) { BundleStore(root).import(FolderSource(source), tiny, {}) }
        assertEquals(135L, error.arguments[2])
        assertTrue(root.listFiles()!!.isEmpty())
    }

    @Test
    fun listsOfLabelsAreKept() {
        val lists = LabelLists(File(root, "labels"))
        assertProblem(Problem.NO_LABELS) { lists.write("none", " \n ") }
        assertEquals("chest", lists.write("../chest", "normal\npneumonia"))
        assertEquals("normal", lists.write("///", "normal"))
        assertEquals(listOf("chest", "normal"), lists.names)
        assertEquals(listOf("normal", "pneumonia"), lists.read("chest").keys.toList())
        lists.delete("chest")
        assertEquals(listOf("normal"), lists.names)
    }

    @Test
    fun halfCopiesCanBeForgotten() {
        MadeBundle(source)
        val store = BundleStore(root)
        assertProblem(Problem.COPY_INTERRUPTED) { store.import(Pulled(FolderSource(source), 100), big, {}) }
        store.discardPartial()
        assertEquals(0, root.walk().count { it.isFile })
    }

    @Test
    fun aSourceThatLosesItsManifestSaysSo() {
        val gone = object : BundleSource {
            override fun open(path: String, offset: Long): InputStream = throw FileNotFoundException(path)
        }
        assertProblem(Problem.NO_MANIFEST) { BundleStore(root).import(gone, big, {}) }
    }
}

/** An import in a process of its own, which is slow, so that it can be killed in its middle. */
object SlowImport {
    /** How long it takes, about. */
    const val MILLISECONDS = 310L

    /** Start one, and wait until it copies. */
    fun begin(source: File, root: File): Process {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val classes = System.getProperty("java.class.path")
        val process = ProcessBuilder(java, "-Xshare:auto", "-cp", classes, SlowImport::class.java.name, source.path, root.path)
            .redirectError(ProcessBuilder.Redirect.INHERIT).start()
        assertEquals('!'.code, process.inputStream.read())
        return process
    }

    @JvmStatic
    fun main(arguments: Array<String>) {
        val inner = FolderSource(File(arguments[0]))
        val slow = object : BundleSource {
            override fun open(path: String, offset: Long): InputStream {
                if (path != Manifest.NAME) print("!").also { System.out.flush() }
                return object : FilterInputStream(inner.open(path, offset)) {
                    override fun read(buffer: ByteArray, from: Int, count: Int): Int {
                        Thread.sleep(1)
                        return super.read(buffer, from, minOf(count, 1000))
                    }
                }
            }
        }
        BundleStore(File(arguments[1])).import(slow, phone(6.0), {})
    }
}
