package org.medge.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

class DicomTest {
    @Test
    fun whatIsReadIsWhatPythonShowsAndTheRestIsRefused() {
        val golden = GoldenFiles.encoder()
        val shown = golden.tensors("dicom.safetensors")
        var equal = 0
        val refused = HashMap<Problem, Int>()
        for (path in given("medge.dicoms").readLines()) {
            val file = File(path)
            val picture = try {
                Dicom.read(file, jpeg = DESKTOP_JPEG)
            } catch (error: MedgeException) {
                refused.merge(error.problem, 1, Int::plus)
                if (error.problem == Problem.DICOM_TRANSFER_SYNTAX) assertTrue(error.message, "1.2.840" in error.message!!)
                // What Python reads may be outside of the subset, and no other reason counts.
                if (path in shown) assertTrue("${file.name}: ${error.message}", error.problem in setOf(Problem.DICOM_TRANSFER_SYNTAX, Problem.DICOM_UNSUPPORTED, Problem.DICOM_DAMAGED))
                continue
            }
            assertTrue("${file.name} is shown here, and Python refuses it", path in shown)
            val expected = shown[path]
            assertEquals(file.name, expected.shape, listOf(picture.height, picture.width, 3))
            // JPEG too: the desktop's decoder and Pillow's both come from libjpeg and do the exact integer transform.
            assertEquals(file.name, 0, difference(expected.raw(), picture.bytes()))
            equal++
        }
        println("DICOM: $equal read, refused $refused")
        assertTrue("$equal files", equal >= 40)
        assertTrue(refused.getValue(Problem.DICOM_TRANSFER_SYNTAX) >= 10)
    }

    @Test
    fun aFileThatIsCutAnywhereEndsInWords() {
        val path = given("medge.dicoms").readLines().first { it.endsWith("CT_small.dcm") }
        val bytes = File(path).readBytes()
        val cut = File.createTempFile("cut", ".dcm").apply { deleteOnExit() }
        for (length in 0 until bytes.size step 397) {
            cut.writeBytes(bytes.copyOf(length))
            try {
                Dicom.read(cut, jpeg = DESKTOP_JPEG)
            } catch (error: MedgeException) {
                assertTrue(error.problem in setOf(Problem.DICOM_DAMAGED, Problem.DICOM_NO_PICTURE))
            }
        }
    }

    @Test
    fun whatIsNoDicomIsSaidToBeNone() {
        val file = File.createTempFile("not", ".dcm").apply { deleteOnExit() }
        file.writeBytes(ByteArray(200))
        assertProblem(Problem.DICOM_DAMAGED) { Dicom.read(file, jpeg = DESKTOP_JPEG) }
        assertTrue(!Dicom.marks(ByteArray(10)))
    }
}
