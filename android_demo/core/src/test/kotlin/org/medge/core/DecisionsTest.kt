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
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64

class DecisionsTest {
    private val folder = temporaryFolder()
    private val golden = parseJson(File(given("medge.golden"), "decisions.json").readText()) as JsonObject

    @After
    fun clean() {
        folder.deleteRecursively()
    }

    private fun JsonObject.file(): File =
        File(folder, "scores.safetensors").also { it.writeBytes(Base64.getDecoder().decode(text("scores")!!)) }

    private fun JsonObject.floatsOf(name: String): FloatArray? = list(name)?.map { it.asFloat }?.toFloatArray()

    private fun cases() = golden.list("cases")!!.map { it as JsonObject }

    @Test
    fun decisionsAreThoseOfPython() {
        var count = 0
        for (case in cases()) {
            val images = case.list("images")!!.map { it as JsonObject }
            val calibration = ScoreCalibration.load(case.file(), images[0].list("embedding")!!.size())
            for (image in images) {
                val logits = image.floatsOf("cosines")?.let { cosines ->
                    DoubleArray(cosines.size) { cosines[it].toDouble() * case.number("logit_scale")!! + case.number("logit_bias")!! }
                }
                val found = calibration.decide(image.floatsOf("embedding")!!, logits)
                assertSame("${case.text("name")}, ${image.text("name")}", image.child("decision")!!, found)
                count++
            }
        }
        assertTrue("$count images", count > 30)
    }

    private fun assertSame(name: String, expected: JsonObject, found: Decision) {
        assertEquals(name, expected.flag("unlike"), found.unlike)
        assertEquals(name, expected.text("kind"), found.kind)
        assertEquals(name, expected.number("distance")!!, found.distance, 1e-9 * found.distance)
        assertEquals(name, expected.list("likely")?.map { it.asString }, found.likely)
        val findings = expected.list("findings")!!.map { it as JsonObject }
        assertEquals(name, findings.map { it.text("label") to it.text("says") }, found.findings.map { it.label to it.says.id })
        for ((wanted, finding) in findings.zip(found.findings)) {
            val probability = wanted.number("probability")
            if (probability == null) assertNull(name, finding.probability) else assertEquals(name, probability, finding.probability!!, 1e-9 * probability + 1e-300)
        }
    }

    @Test
    fun filesThatEveryLanguageRefusesAreRefused() {
        val size = cases()[0].list("images")!!.map { it as JsonObject }[0].list("embedding")!!.size()
        val refused = golden.list("refused")!!.map { it as JsonObject }
        assertTrue(refused.size > 10)
        for (one in refused) {
            val name = one.text("name")
            val problem = try {
                ScoreCalibration.load(one.file(), size)
                null
            } catch (error: MedgeException) {
                error.problem
            }
            assertEquals(name, Problem.TENSORS_DAMAGED, problem)
        }
    }

    /** The file of a case, as one that was fitted to another encoder and other labels. */
    private fun belongingTo(bytes: ByteArray, fingerprint: String, labelsHash: String): ByteArray {
        val size = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong(0).toInt()
        val header = String(bytes, 8, size).replace("golden/eval-tf", fingerprint).replace("0".repeat(64), labelsHash).toByteArray()
        val length = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(header.size.toLong()).array()
        return length + header + bytes.copyOfRange(8 + size, bytes.size)
    }

    private fun bundle(name: String, scores: ByteArray): File {
        val labels = "labels".toByteArray()
        val made = MadeBundle(File(folder, name).apply { mkdirs() }, extra = arrayOf("scores.safetensors" to scores, "labels.safetensors" to labels))
        made.writeManifest(made.folder) { it.replace("\"embedding_size\":64", "\"embedding_size\":6") }
        return made.folder
    }

    @Test
    fun anImportTakesThresholdsOfItsOwnScoresAndNoOthers() {
        val root = File(folder, "app").apply { mkdirs() }
        val file = cases()[0].file().readBytes()
        fun import(from: File) = BundleStore(root).import(FolderSource(from), phone(6.0), {})

        val others = bundle("others", file)
        val manifest = Bundle.open(others).manifest
        assertProblem(Problem.SCORES_OF_OTHER_BUNDLE) { import(others) }
        val (fingerprint, labels) = manifest.fingerprint to manifest.file("labels")!!.sha256
        assertProblem(Problem.SCORES_OF_OTHER_BUNDLE) { import(bundle("other-labels", belongingTo(file, fingerprint, "1".repeat(64)))) }
        assertProblem(Problem.TENSORS_DAMAGED) { import(bundle("damaged", file.copyOf(file.size - 8))) }
        assertFalse(File(root, "encoder").walk().any { it.isFile }) // nothing is left of what can't be used
        assertNull(BundleStore(root).current(Kind.ENCODER))

        import(bundle("own", belongingTo(file, fingerprint, labels)))
        val kept = BundleStore(root).current(Kind.ENCODER)!!
        assertNotNull(ScoreCalibration.of(kept))
    }

    @Test
    fun aBundleWithoutThresholdsHasNoCalibration() {
        MadeBundle(File(folder, "plain").apply { mkdirs() })
        assertNull(ScoreCalibration.of(Bundle.open(File(folder, "plain"))))
    }
}
