package org.medge.core

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Assume.assumeTrue
import java.io.ByteArrayInputStream
import java.io.File
import javax.imageio.ImageIO

/**
 * A folder or file that the test run names by a system property; tests that need it are skipped where it isn't set, and fail where the run
 * promises everything (`-Dmedge.everything=true`).
 */
internal fun given(property: String): File {
    val value = System.getProperty(property).orEmpty()
    if (value.isEmpty() && System.getProperty("medge.everything") == "true") fail("-D$property is not set")
    assumeTrue("-D$property is not set: see android_demo/README.md", value.isNotEmpty())
    return File(value)
}

/** Files that `medge golden` has written of an encoder. */
internal class GoldenFiles(private val folder: File) {
    val index = json("golden.json") as JsonObject
    val bundle: Bundle by lazy { Bundle.open(File(index.text("bundle")!!)) }

    fun json(name: String) = parseJson(File(folder, name).readText())!!

    fun list(name: String) = json(name) as JsonArray

    fun tensors(name: String) = SafeTensors(File(folder, name))

    companion object {
        fun encoder() = GoldenFiles(given("medge.golden"))

        fun generator() = GoldenFiles(given("medge.answers"))
    }
}

/** A (height, width, 3) tensor as an image. */
internal fun imageOf(tensor: SafeTensors.Tensor): Pixels {
    val (height, width) = tensor.shape
    if (tensor.dtype == "U8") return Pixels.of(width, height, tensor.raw())
    val raw = tensor.raw()
    val values = ShortArray(raw.size / 2) { ((raw[2 * it].toInt() and 0xff) or (raw[2 * it + 1].toInt() shl 8)).toShort() }
    return Pixels(width, height, values, 65535)
}

/** The greatest difference between two 8-bit images, in grey levels. */
internal fun difference(a: ByteArray, b: ByteArray): Int {
    assertEquals(a.size, b.size)
    return a.indices.maxOf { kotlin.math.abs((a[it].toInt() and 0xff) - (b[it].toInt() and 0xff)) }
}

internal fun assertClose(expected: FloatArray, actual: FloatArray, tolerance: Float) {
    assertEquals(expected.size, actual.size)
    for (index in expected.indices) assertEquals(expected[index], actual[index], tolerance)
}

/** The desktop's JPEG decoder, to RGB. */
internal val DESKTOP_JPEG = JpegDecoder { bytes ->
    ImageIO.read(ByteArrayInputStream(bytes))?.let { image ->
        val raster = image.raster
        if (raster.numBands == 1) { // the raster, for getRGB would put grey through a colour profile
            val grey = raster.getSamples(0, 0, image.width, image.height, 0, null as IntArray?)
            Pixels.of(image.width, image.height, ByteArray(grey.size * 3) { grey[it / 3].toByte() })
        } else {
            Pixels.ofArgb(image.width, image.height) { y, row -> image.getRGB(0, y, image.width, 1, row, 0, image.width) }
        }
    }
}

/** Whatever [block] does must end with this problem. */
internal fun assertProblem(problem: Problem, block: () -> Unit): MedgeException {
    try {
        block()
    } catch (error: MedgeException) {
        assertEquals(error.message, problem, error.problem)
        assertTrue(error.message!!.isNotBlank())
        return error
    }
    fail("expected $problem")
    throw AssertionError()
}

internal fun temporaryFolder(): File = File.createTempFile("medge", "").let {
    it.delete()
    it.mkdirs()
    it.apply { deleteOnExit() }
}

/** A phone with this much memory, free by half. */
internal fun phone(gigabytes: Double, features: String = "fp asimd asimddp") =
    Device((gigabytes * 1e9).toLong(), (gigabytes * 5e8).toLong(), 8, "arm64-v8a", features.split(' ').toSet())
