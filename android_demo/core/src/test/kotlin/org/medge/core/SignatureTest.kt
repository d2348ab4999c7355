package org.medge.core

import com.google.gson.JsonObject
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Test
import java.io.File
import java.io.IOException
import java.io.InputStream

/** Bundles that Python has signed, and others; whose they are, and what is refused. */
class SignatureTest {
    private val root = temporaryFolder()
    private val phone = phone(6.0)

    @After
    fun clean() {
        root.deleteRecursively()
    }

    private class Case(val name: String, val bundle: File, val trust: File, val problem: String?)

    private val cases by lazy {
        parseJson(File(given("medge.signed"), "cases.json").readText())!!.asJsonArray.map {
            val case = it as JsonObject
            Case(case.text("name")!!, File(case.text("bundle")!!), File(case.text("trust")!!), case.text("problem"))
        }
    }

    private fun case(name: String) = cases.single { it.name == name }

    @Test
    fun whatPythonRefusesIsRefusedHereForTheSameReason() {
        assertTrue(cases.size > 150)
        for ((number, case) in cases.withIndex()) {
            val store = BundleStore(File(root, "$number"), { Trust.open(case.trust) })
            val found = try {
                store.import(FolderSource(case.bundle), phone, {})
                null
            } catch (error: MedgeException) {
                error.problem.name
            }
            assertEquals(case.name, case.problem, found)
            if (case.problem != null) assertNull(case.name, store.current(Kind.ENCODER))
        }
    }

    @Test
    fun withoutTrustNoSignatureIsLookedAt() {
        val store = BundleStore(root)
        store.import(FolderSource(case("unsigned").bundle), phone, {})
        assertFalse(File(store.current(Kind.ENCODER)!!.folder, Trust.SIGNATURE).exists())
    }

    @Test
    fun theSignatureIsKeptBesideWhatItSigns() {
        val case = case("signed")
        val bundle = BundleStore(root, { Trust.open(case.trust) }).import(FolderSource(case.bundle), phone, {})
        assertTrue(File(bundle.folder, Trust.SIGNATURE).readBytes().contentEquals(File(case.bundle, Trust.SIGNATURE).readBytes()))
        bundle.verify()
        val trusted = Trust.open(case.trust).trusted
        assertEquals(listOf("makers"), trusted.values.toList())
        assertTrue(trusted.keys.single().startsWith(Trust.short(trusted.keys.single()).replace("-", "")))
    }

    @Test
    fun aPolicyToWarnWarnsAndImports() {
        val case = case("policy warn")
        val told = ArrayList<Problem>()
        BundleStore(root, { Trust.open(case.trust) }).import(FolderSource(case.bundle), phone, {}, { told += it.problem })
        assertEquals(listOf(Problem.KEY_UNKNOWN), told)
    }

    @Test
    fun aFileThatChangesAfterTheManifestWasReadIsNoticed() {
        val case = case("signed")
        val inner = FolderSource(case.bundle)
        val changing = object : BundleSource {
            override fun open(path: String, offset: Long): InputStream =
                if (!path.endsWith(".onnx")) inner.open(path, offset) else ByteArray(30_000).inputStream()
        }
        assertProblem(Problem.FILE_CHANGED) { BundleStore(root, { Trust.open(case.trust) }).import(changing, phone, {}) }
    }

    @Test
    fun aStickThatIsPulledOutIsNoReasonToWarn() {
        val case = case("policy warn")
        val inner = FolderSource(case.bundle)
        val gone = object : BundleSource {
            override fun open(path: String, offset: Long): InputStream =
                if (path != Trust.SIGNATURE) inner.open(path, offset) else throw IOException("no such device")
        }
        assertProblem(Problem.COPY_INTERRUPTED) { BundleStore(root, { Trust.open(case.trust) }).import(gone, phone, {}, { fail("warned") }) }
    }

    @Test
    fun aFieldThatIsThereTwiceIsRefused() {
        for (text in listOf("{\"a\":1,\"a\":1}", "{\"a\":{\"b\":1,\"b\":2}}", "{\"a\":1}x", "{'a':1}", "{\"a\":NaN}", "[1]", "{\"a\":1", "")) {
            try {
                strictObject(text.toByteArray())
                fail(text)
            } catch (_: Unreadable) {
            }
        }
        assertEquals(2L, strictObject("{\"a\":{\"b\":2}}".toByteArray()).branch("a").long("b"))
    }
}
